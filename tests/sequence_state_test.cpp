// Saved states of sequences.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include "engine/io/safetensors.h"
#include "mblm/generator.h"
#include "mblm/sequence_state_file.h"
#include "tests/error_text.h"
#include "tests/random_config.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

using Ids = std::vector<std::int64_t>;

std::vector<std::vector<float>> continued(const Model& model, const SequenceState& state, std::span<const std::int64_t> ids) {
  Generator generator(model);
  const Generator::Row row = generator.join(state);
  std::vector<std::vector<float>> logits;
  for (const std::int64_t id : ids) {
    logits.emplace_back(generator.logits(row).begin(), generator.logits(row).end());
    generator.step(std::span(&row, 1), std::span(&id, 1));
  }
  return logits;
}

}  // namespace

TEST_CASE("a saved state continues with the bits of the sequence, after every byte of random models") {
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const ModelConfig config = random_config(seed);
    CAPTURE(to_yaml(config));
    for (const DType precision : {DType::Float32, DType::BFloat16}) {
      const auto model = make_model(config, precision, seed), again = make_model(config, precision, seed);
      const Ids ids = random_ids(1, config.context()).to_vector<std::int64_t>();
      Generator generator(*model);
      const Generator::Row row = generator.join();
      for (std::size_t length = 0; length < ids.size(); ++length) {
        const SequenceState state = generator.snapshot(row);
        save_sequence(folder / "state", *model, {state, {3, 7}});
        const SavedSequence loaded = load_sequence(folder / "state", *again);
        CHECK(loaded.seen == Ids{3, 7});
        CHECK(loaded.state.length == static_cast<std::int64_t>(length));
        const auto rest = std::span(ids).subspan(length);
        REQUIRE(continued(*again, loaded.state, rest) == continued(*model, state, rest));
        generator.step(std::span(&row, 1), rest.first(1));
      }
    }
  }
}

TEST_CASE("the state of another model or precision, and other and damaged files, are refused") {
  const TemporaryFolder folder;
  const ModelConfig config = random_config(1);
  const auto model = make_model(config), other = make_model(config, DType::Float32, 2), narrow = make_model(config, DType::BFloat16);
  Generator generator(*model);
  const Generator::Row row = generator.join();
  generator.feed(row, random_ids(1, 3).to_vector<std::int64_t>());
  save_sequence(folder / "state", *model, {generator.snapshot(row), {}});
  const std::string name = folder / "state";
  const auto error = [&](const Model& with) { return error_text<FileError>([&] { load_sequence(name, with); }); };
  CHECK(error(*other) == name + ": the state belongs to another model (config or parameters differ)");
  CHECK(error(*narrow) == name + ": the state was saved in float32, the model is in bfloat16");

  const SafetensorsFile file(name);
  std::vector<NamedTensor> tensors;
  for (const std::string& tensor : file.names()) tensors.push_back({tensor, clone(file.tensor(tensor))});
  const auto metadata = file.metadata();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].name);
    std::vector<NamedTensor> damaged = tensors;
    damaged.erase(damaged.begin() + static_cast<std::ptrdiff_t>(i));
    write_checked_safetensors(name, damaged, metadata);
    CHECK(error(*model).find(name) == 0);
    damaged = tensors;
    damaged[i].tensor = zeros(Shape{2, 3}, DType::Float32);
    write_checked_safetensors(name, damaged, metadata);
    CHECK(error(*model).find(name) == 0);
  }
  write_safetensors(name, tensors, {{"mblm_sequence_state", "1"}});
  CHECK(error(*model) == name + ": expected an entry checksum in the metadata, there is none");
  write_safetensors(name, tensors, {});
  CHECK(error(*model) == name + ": expected a state that --save-state wrote, version 1, found another kind of file");
  std::ofstream(name) << "text";
  CHECK(error(*model).find(name) == 0);
}

TEST_CASE("each changed byte of a saved state is noticed") {
  const TemporaryFolder folder;
  const auto model = make_model(random_config(3));
  Generator generator(*model);
  const Generator::Row row = generator.join();
  generator.feed(row, random_ids(1, 5).to_vector<std::int64_t>());
  const std::string name = folder / "state";
  save_sequence(name, *model, {generator.snapshot(row), {3, 7}});
  std::ifstream in(name, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  const std::size_t header = 8 + static_cast<unsigned char>(whole[0]) + 256 * static_cast<unsigned char>(whole[1]);
  for (std::size_t at = header; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    std::ofstream(name, std::ios::binary) << changed;
    REQUIRE(error_text<FileError>([&] { load_sequence(name, *model); }).starts_with(name + ": damaged: expected checksum "));
  }
}

TEST_CASE("a state with ids or a length that the model does not take is refused, also with the right checksum") {
  const TemporaryFolder folder;
  ModelConfig config = random_config(3);
  const auto model = make_model(config);
  Generator generator(*model);
  const Generator::Row row = generator.join();
  generator.feed(row, random_ids(1, 1).to_vector<std::int64_t>());
  const SequenceState good = generator.snapshot(row);
  const std::string name = folder / "state";
  const auto error = [&](const SequenceState& state) {
    save_sequence(name, *model, {state, {}});
    return error_text<FileError>([&] { load_sequence(name, *model); });
  };
  REQUIRE(good.open.size() == 1);
  for (const std::int64_t id : {std::int64_t{-1}, config.num_tokens, std::int64_t{1} << 60}) {
    SequenceState bad = good;
    bad.open.front() = id;
    CHECK(error(bad) == name + ": the state is damaged");
  }
  for (const std::int64_t length : {std::int64_t{-1}, std::int64_t{2}, std::int64_t{1} << 62}) {
    SequenceState bad = good;
    bad.length = length;
    CHECK(error(bad).starts_with(name + ": "));
  }
}

}  // namespace mblm::testing
