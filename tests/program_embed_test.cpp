// mblm embed: the model's hidden states in both file formats, and errors.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "mblm/checkpoint.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

// The numbers that the program should write, (1, L, D).
std::vector<float> expected_numbers(const std::string& model, const std::string& bytes) {
  std::vector<std::int64_t> ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  const NoGradScope no_grad;
  return load_model(model, BlockRegistry())->hidden_states(from_values(Shape{1, static_cast<std::int64_t>(ids.size())}, ids)).to_vector<float>();
}

// The numbers of a .npy file. Its header must give float32 and `shape`, padded to a multiple of 64 bytes as in NumPy.
std::vector<float> npy_numbers(const std::string& file, const std::string& shape) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
  REQUIRE(file.size() > 10);
  CHECK(file.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const std::size_t length = static_cast<unsigned char>(file[8]) + 256u * static_cast<unsigned char>(file[9]), begin = 10 + length;
  CHECK(begin % 64 == 0);
  REQUIRE(file.size() >= begin);
  CHECK(file.substr(10, header.size()) == header);
  CHECK(file.substr(10 + header.size(), length - header.size()) == std::string(length - header.size() - 1, ' ') + "\n");
  REQUIRE((file.size() - begin) % sizeof(float) == 0);
  std::vector<float> numbers((file.size() - begin) / sizeof(float));
  if (!numbers.empty()) std::memcpy(numbers.data(), file.data() + begin, file.size() - begin);
  return numbers;
}

void check_refused(const std::vector<std::string>& arguments, const std::string& input, const std::string& message) {
  const ProgramResult result = run_program(arguments, input);
  CHECK(result.status == 1);
  CHECK(result.out.empty());
  CHECK(result.err == "mblm: " + message + "\n");
}

}  // namespace

TEST_CASE("embed writes the hidden states of a file or of standard input") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.safetensors", text = "The sea was calm,\xff and the ships", file = folder.write("text", text);
  save_tiny_model(model, tiny_model);
  const std::vector<float> expected = expected_numbers(model, text);
  const std::string shape = concat_text('(', text.size(), ", 16)");

  const ProgramResult to_output = run_program({"embed", model, file});
  CHECK(to_output.status == 0);
  CHECK(to_output.err.empty());
  CHECK(npy_numbers(to_output.out, shape) == expected);
  CHECK(run_program({"embed", model}, text).out == to_output.out);

  CHECK(run_program({"embed", model, file, "-o", folder / "hidden.npy"}).out.empty());
  CHECK(read_file(folder / "hidden.npy") == to_output.out);

  const ProgramResult to_file = run_program({"embed", model, file, "--output", folder / "hidden.safetensors"});
  CHECK(to_file.status == 0);
  const SafetensorsFile written(folder / "hidden.safetensors");
  CHECK(written.names() == std::vector<std::string>{"hidden_states"});
  const Tensor hidden = written.tensor("hidden_states");
  CHECK(hidden.shape() == Shape{static_cast<std::int64_t>(text.size()), 16});
  CHECK(hidden.to_vector<float>() == expected);
}

TEST_CASE("embed of empty input") {
  const TemporaryFolder folder;
  save_tiny_model(folder / "model.safetensors", tiny_model);
  CHECK(npy_numbers(run_program({"embed", folder / "model.safetensors"}).out, "(0, 16)").empty());
}

TEST_CASE("embed of invalid input") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.safetensors";
  save_tiny_model(model, fixed_model);
  check_refused({"embed", model, folder / "nothing"}, "", (folder / "nothing").string() + ": cannot be read: No such file or directory");
  check_refused({"embed", model, folder.path()}, "", folder.path().string() + ": expected a file, found a folder");
  check_refused({"embed", model}, "seventeen letters", "input_ids: expected at most 16 ids, the fixed context of the model, got 17");
  const ProgramResult beyond = run_program({"embed", model}, "\xff");
  CHECK(beyond.status == 1);
  CHECK(beyond.err.find("255") != std::string::npos);
  check_refused({"embed", model, "-o", folder / "no/such/folder.npy"}, "a",
                (folder / "no/such/folder.npy").string() + ": cannot create the file: No such file or directory");
  CHECK(folder.count() == 1);
}

}  // namespace mblm::testing
