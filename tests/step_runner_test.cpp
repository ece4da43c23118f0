// The saved state of a StepRunner.
#include "train/step_runner.h"

#include <doctest/doctest.h>

#include "engine/error.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

constexpr const char* tiny =
    "num_tokens: 20\npad_token_id: 19\nhidden_dims: [16]\nseq_lens: [8]\nnum_layers: [1]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}\n";

struct Run {
  Model model{parse_model_config(tiny, "test", BlockRegistry())};
  std::optional<StepRunner> runner;

  explicit Run(std::uint64_t seed) {
    model.allocate();
    model.initialize(seed);
    runner.emplace(model, 2);
  }
  void micro_step() {
    runner->micro_step(prepare_input(model.config(), from_values<std::int64_t>(Shape{1, 8}, {1, 2, 3, 4, 5, 6, 7, 8})), {.training = true});
  }
  // All bytes of the state.
  std::vector<std::vector<float>> contents() const {
    std::vector<std::vector<float>> all;
    for (const NamedTensor& named : runner->state()) all.push_back(named.tensor.to_vector_as<float>());
    return all;
  }
};

}  // namespace

TEST_CASE("a state that does not match the model is refused before anything changes") {
  const TemporaryFolder folder;
  Run saved(1), other(2);
  saved.micro_step();
  saved.micro_step();
  saved.runner->optimizer_step(0.01);
  saved.micro_step();  // within a group: the state contains gradients
  const std::vector<NamedTensor> state = saved.runner->state();
  REQUIRE(state.size() == 6);  // parameters, moments, counts, gradients, a constant
  const std::vector<std::vector<float>> before = other.contents();
  for (std::size_t i = 0; i < state.size(); ++i) {
    CAPTURE(state[i].name);
    for (const bool is_missing : {true, false}) {
      std::vector<NamedTensor> wrong = state;
      if (is_missing) wrong.erase(wrong.begin() + static_cast<std::ptrdiff_t>(i));
      else wrong[i].tensor = zeros(Shape{3}, wrong[i].tensor.dtype());
      if (is_missing && state[i].name == "gradients") continue;              // a state between groups
      if (is_missing && state[i].name.starts_with("constant.")) continue;  // a state of an earlier version
      write_safetensors(folder / "wrong", wrong);
      const std::string message = message_of<FileError>([&] { other.runner->restore(SafetensorsFile(folder / "wrong")); });
      CHECK(message.find(state[i].name) != std::string::npos);
      CHECK(other.contents() == before);
    }
  }
  write_safetensors(folder / "right", state);
  other.runner->restore(SafetensorsFile(folder / "right"));
  CHECK(other.contents() == saved.contents());
}

}  // namespace mblm::testing
