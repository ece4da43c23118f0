// Two models in two threads of one process.
#include <doctest/doctest.h>

#include <thread>

#include "engine/parallel.h"
#include "train/step_runner.h"

namespace mblm::testing {
namespace {

constexpr const char* mamba_over_transformer =
    "num_tokens: 50\npad_token_id: 49\nhidden_dims: [64, 48]\nseq_lens: [16, 8]\nnum_layers: [2, 1]\ntrain_checkpoint_chunks: [3]\nblock:\n"
    "  - {d_state: 16, d_conv: 4, expand: 2, headdim: 16, dropout: 0.1, pos_emb_type: null}\n"
    "  - {attn_head_dims: 16, attn_num_heads: 3, attn_use_rot_embs: true, ff_dropout: 0.1, pos_emb_type: fixed}\n";
constexpr const char* transformer_over_mamba =
    "num_tokens: 50\npad_token_id: 49\nhidden_dims: [40, 64]\nseq_lens: [16, 8]\nnum_layers: [1, 2]\ntrain_checkpoint_chunks: null\nblock:\n"
    "  - {attn_head_dims: 8, attn_num_heads: 5, attn_use_rot_embs: false, attn_dropout: 0.1, pos_emb_type: rope}\n"
    "  - {block_type: mamba1, d_state: 16, d_conv: 4, expand: 2, headdim: 16, pos_emb_type: null}\n";

Tensor ids_of(std::int64_t step) {
  std::vector<std::int64_t> ids(4 * 120);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(random_word({9, 1, static_cast<std::uint32_t>(step)}, i) % 49);
  return from_values(Shape{4, 120}, ids);
}

// Trains a few steps and returns the losses, all parameters and the logits of a batch.
std::vector<float> trained_numbers(const char* yaml, std::uint64_t seed, int threads) {
  set_thread_count(threads);
  Model model(parse_model_config(yaml, "test", BlockRegistry()));
  model.allocate();
  model.initialize(seed);
  StepRunner runner(model, 2, {.gradient = {.clip = 1.0}});
  std::vector<float> numbers;
  for (std::uint32_t step = 0; step < 6; ++step) {
    const ForwardContext context{.training = true, .seed = seed, .first_sequence = 0};
    numbers.push_back(static_cast<float>(runner.micro_step(prepare_input(model.config(), ids_of(step)), context).item()));
    if (step % 2 == 1) runner.optimizer_step(1e-2);
  }
  const auto append = [&](const Tensor& x) {
    for (const float value : x.to_vector<float>()) numbers.push_back(value);
  };
  append(model.parameters().values());
  append(model.logits(ids_of(99)));
  return numbers;
}

}  // namespace

TEST_CASE("two models in two threads give the same results as sequential runs") {
  for (const int threads : {1, 3}) {
    CAPTURE(threads);
    std::vector<float> first[2], second[2];  // sequential, concurrent
    std::thread([&] {
      first[0] = trained_numbers(mamba_over_transformer, 1, threads);
      second[0] = trained_numbers(transformer_over_mamba, 2, threads);
    }).join();
    std::thread one([&] { first[1] = trained_numbers(mamba_over_transformer, 1, threads); });
    std::thread other([&] { second[1] = trained_numbers(transformer_over_mamba, 2, threads); });
    one.join();
    other.join();
    CHECK(first[0].size() > 1000);
    CHECK(first[0] == first[1]);
    CHECK(second[0] == second[1]);
  }
}

}  // namespace mblm::testing
