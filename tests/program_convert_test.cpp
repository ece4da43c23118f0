// mblm convert, and checkpoints of the Python package as the MODEL of other commands.
#include <doctest/doctest.h>

#include <algorithm>
#include <regex>

#include "engine/io/torch_file.h"
#include "mblm/checkpoint.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

// Runs the program, which must succeed without messages, and returns its output.
std::string output_of(const std::vector<std::string>& arguments) {
  const ProgramResult result = run_program(arguments);
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.err.empty());
  return result.out;
}

// The program must print one line that contains `parts`.
void check_refused(int status, const std::vector<std::string>& arguments, const std::vector<std::string>& parts) {
  const ProgramResult result = run_program(arguments);
  INFO(result.err);
  CHECK(result.status == status);
  CHECK(result.out.empty());
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  for (const std::string& part : parts) CHECK(result.err.find(part) != std::string::npos);
}

struct Files {
  TemporaryFolder folder;
  std::string model = folder / "model.safetensors", package = folder / "package.pth", back = folder / "back.safetensors";
  std::string config = folder.write("model.yaml", tiny_model).string();
  Files() { save_tiny_model(model, tiny_model); }
};

std::vector<std::string> names_in(const std::string& package) {
  std::vector<std::string> names;
  for (const TorchTensor& tensor : TorchFile(package).tensors("MODEL")) names.push_back(tensor.name);
  return names;
}

}  // namespace

TEST_CASE("a checkpoint converts to the Python package's format and back") {
  const Files files;
  for (const std::vector<std::string>& layout : {std::vector<std::string>{}, {"--layout", "0.4.1"}, {"--layout", "0.4.2"}}) {
    std::vector<std::string> arguments{"convert", files.model, files.package};
    arguments.insert(arguments.end(), layout.begin(), layout.end());
    CHECK(output_of(arguments).empty());
    const std::vector<std::string> names = names_in(files.package);
    const bool is_older = layout.size() == 2 && layout[1] == "0.4.1";
    CHECK(std::count(names.begin(), names.end(), is_older ? "token_embs_rev.1.0.weight" : "token_embs_rev.1.embedding.weight") == 1);
    CHECK(output_of({"convert", files.package, files.back, "--config", files.config}).empty());
    CHECK(read_file(files.back) == read_file(files.model));
  }
}

TEST_CASE("conversion keeps the validation loss") {
  const TemporaryFolder folder;
  const ProgramResult run = run_program({"train", prepare_tiny_run(folder), "train.target_elements=8"});
  REQUIRE(run.status == 0);
  const std::string run_folder = run.out.substr(0, run.out.size() - 1), package = folder / "x.pth", back = folder / "x.safetensors";
  output_of({"convert", run_folder, package});
  output_of({"convert", package, back, "--config", folder / "config.yaml"});
  const auto loss = open_checkpoint(std::filesystem::path(run_folder) / "checkpoints" / "best.safetensors").loss;
  REQUIRE(loss);
  CHECK(TorchFile(package).number("LOSS") == loss);
  CHECK(open_checkpoint(back).loss == loss);
}

TEST_CASE("a package checkpoint is a model if its config is given") {
  const Files files;
  output_of({"convert", files.model, files.package, "--layout", "0.4.1"});
  const std::vector<std::string> more{"--prompt", "In the", "--tokens", "20", "--format", "ids"};
  std::vector<std::string> ours{"generate", files.model}, theirs{"generate", files.package, "--config", files.config};
  ours.insert(ours.end(), more.begin(), more.end());
  theirs.insert(theirs.end(), more.begin(), more.end());
  CHECK(output_of(theirs) == output_of(ours));
  CHECK(output_of({"info", files.package, "--config", files.config}) == output_of({"info", files.model}));
  files.folder.write("text", words(500));
  const std::string text = files.folder / "text";
  const std::string expected = output_of({"eval", files.model, "--data", text, "--split", "all"});
  CHECK(output_of({"eval", files.package, "--config", files.config, "--data", text, "--split", "all"}) == expected);
}

TEST_CASE("training starts from a package checkpoint") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder), package = folder / "start.pth";
  save_tiny_model(folder / "start.safetensors", tiny_model);
  output_of({"convert", folder / "start.safetensors", package, "--layout", "0.4.1"});
  const auto trained_from = [&](const std::string& start, const std::string& id) {
    const ProgramResult result = run_program({"train", config, "train.target_elements=8", "io.run_id=" + id, "resume.checkpoint_file=" + start,
                                              "resume.rename_modules=true"});
    INFO(result.err);
    REQUIRE(result.status == 0);
    const std::string table = read_file(folder / "runs" / ("tiny_" + id) / "loss.csv");
    const std::string timeless = std::regex_replace(table, std::regex("\\d{4}-[^,]*,"), "TIME,");
    return std::regex_replace(timeless, std::regex(",[^,\n]*(,[^,\n]*)(?=\n)"), ",SPEED$1");  // the last column but one: bytes per second
  };
  CHECK(trained_from(package, "a") == trained_from(folder / "start.safetensors", "b"));
}

TEST_CASE("invalid conversions") {
  const Files files;
  output_of({"convert", files.model, files.package});
  check_refused(1, {"convert", files.package, files.back}, {files.package, "--config"});
  check_refused(1, {"generate", files.package}, {files.package, "--config"});
  check_refused(1, {"convert", files.model, files.back, "--layout", "0.4.1"}, {"--layout", files.back});
  files.folder.write("other.yaml", fixed_model);
  check_refused(1, {"convert", files.package, files.back, "--config", files.folder / "other.yaml"}, {files.package});
  check_refused(1, {"convert", files.package, files.back, "--config", files.folder / "none.yaml"}, {"none.yaml"});
  check_refused(1, {"convert", files.folder / "none.pth", files.back, "--config", files.config}, {"none.pth"});
  const std::string whole = read_file(files.package);
  files.folder.write("cut.pth", whole.substr(0, whole.size() / 2));
  check_refused(1, {"convert", files.folder / "cut.pth", files.back, "--config", files.config}, {"cut.pth", "expected a complete zip file"});
  check_refused(2, {"convert", files.model}, {"TO"});
  check_refused(2, {"convert", files.model, files.folder / "x.bin"}, {"x.bin"});
  check_refused(2, {"convert", files.model, files.package, "--layout", "0.3"}, {"--layout"});
  CHECK_FALSE(std::filesystem::exists(files.back));
}

}  // namespace mblm::testing
