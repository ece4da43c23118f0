// The output of `mblm info`.
#include "mblm/info.h"

#include <doctest/doctest.h>

#include "engine/device.h"
#include "mblm/model.h"
#include "tests/config_text.h"

namespace mblm::testing {
namespace {

const char* const three_stages =
    "num_tokens: 300\npad_token_id: 0\nhidden_dims: [48, 32, 16]\nseq_lens: [6, 5, 4]\nnum_layers: [3, 1, 2]\ntrain_checkpoint_chunks: [1, "
    "5]\nblock:\n"
    "  - {d_state: 8, d_conv: 4, expand: 2, headdim: 16, pos_emb_type: rope}\n"
    "  - {attn_head_dims: 8, attn_num_heads: 3, attn_use_rot_embs: true, ff_multiplier: 3, pos_emb_type: fixed}\n"
    "  - {block_type: mamba1, d_state: 5, d_conv: 2, expand: 3, headdim: 16}\n";

ModelConfig read(const std::string& yaml) { return parse_model_config(yaml, "m.yaml", BlockRegistry()); }

// A block with a known cost and without parameters.
struct PlainConfig : BlockConfig {
  BlockCost known;
  std::string_view type() const override { return "plain"; }
  std::unique_ptr<StageBlock> build(const Scope&, std::int64_t, std::int64_t) const override { return nullptr; }
  BlockCost cost(std::int64_t width, std::int64_t layers, std::int64_t tokens) const override {
    const double size = static_cast<double>(width * layers * tokens);
    return {known.flops * size, known.activations * size};
  }
};

// Two stages of width 4 and 2 over 3 x 5 bytes, with a vocabulary of 7.
ModelConfig plain_model(BlockCost cost) {
  auto block = std::make_shared<PlainConfig>();
  block->known = cost;
  ModelConfig config;
  config.num_tokens = 7;
  config.hidden_dims = {4, 2};
  config.seq_lens = {3, 5};
  config.num_layers = {1, 1};
  config.blocks = {block, block};
  return config;
}

}  // namespace

TEST_CASE("parameter_count equals the count of the built model") {
  const ModelConfig small = parsed(small_config).model, large = read(three_stages);
  CHECK(parameter_count(small) == static_cast<double>(Model(small).parameters().count()));
  CHECK(parameter_count(large) == static_cast<double>(Model(large).parameters().count()));
}

TEST_CASE("parameters are counted by stage") {
  const ModelConfig config = read(three_stages);
  const ModelSummary summary = summarize_model(config, Model(config).parameters());
  for (std::size_t n = 0; n < 3; ++n)
    CHECK(static_cast<double>(summary.stages[n].parameters) == config.blocks[n]->parameter_count(config.hidden_dims[n], config.num_layers[n]));
}

TEST_CASE("costs include all sequences of a stage") {
  const ModelConfig config = plain_model({.flops = 10, .activations = 3});
  const ModelSummary whole = summarize_model(config, ParameterStore());
  CHECK(whole.length == 15);
  CHECK(whole.stages[0].flops == 10 * 4 * 4);      // one sequence of 3 tokens plus the start token
  CHECK(whole.stages[1].flops == 3 * 10 * 2 * 6);  // three sequences of 5 tokens plus the start token
  // Stage 0: three patches, 5 * 2 -> 4, and 4 -> 5 * 2. Stage 1: fifteen bytes, 2 -> 7.
  CHECK(whole.other_flops == 2 * (3 * (10 * 4 + 4 * 10) + 15 * 2 * 7));
  CHECK(whole.forward_flops() == doctest::Approx((160 + 360 + 900) / 15.0));
  CHECK(whole.training_flops() == doctest::Approx(3 * (160 + 360 + 900) / 15.0));
  const ModelSummary part = summarize_model(config, ParameterStore(), 8);  // two patches
  CHECK(part.stages[0].tokens == 2);
  CHECK(part.stages[1].flops == 2 * 10 * 2 * 6);
}

TEST_CASE("a stage in chunks uses less memory and more computation") {
  ModelConfig config = plain_model({.flops = 10, .activations = 3});
  const ModelSummary whole = summarize_model(config, ParameterStore());
  config.train_checkpoint_chunks = std::vector<std::int64_t>{3};
  const ModelSummary chunked = summarize_model(config, ParameterStore());
  CHECK(chunked.forward_flops() == whole.forward_flops());
  CHECK(chunked.training_flops() - whole.training_flops() == doctest::Approx(360 / 15.0));
  CHECK(whole.activation_bytes(1) - chunked.activation_bytes(1) == doctest::Approx(4 * 3 * 3 * 2 * 6 * (1 - 1 / 3.0)));
  CHECK(whole.activation_bytes(2) == 2 * whole.activation_bytes(1));
}

TEST_CASE("description of a model") {
  const ModelConfig config = plain_model({.flops = 1e6, .activations = 0});
  ParameterStore store;
  store.add("stage_models.0.weight", Shape{1000, 1000}, Init::constant(0));
  store.add("stage_models.1.weight", Shape{500, 1000}, Init::constant(0));
  store.add("to_logits.weight", Shape{10, 1003}, Init::constant(0));
  CHECK(
      describe_model(config, store, 2) ==
      "stage  block               tokens   width  layers  parameters\n"
      "0      plain                    3       4       1      1.00 M\n"
      "1      plain                    5       2       1      0.50 M\n"
      "       embeddings, projections, logits                 0.01 M\n"
      "parameters: 1.51 M (1510030)\n"
      "forward: 3.5 MFLOP per byte\n"
      "training: 10.4 MFLOP per byte\n"
      "training memory: about 24.2 MB: 24.2 MB of weights, gradients and Adam's moments, 2.2 kB for the backward pass of 2 x 15 bytes in float32\n");
  const std::string unknown = describe_model(plain_model({}), store);
  CHECK(unknown.find("forward: 60.0 FLOP per byte (without stage 0, 1: the block does not report its cost)\n") != std::string::npos);
}

TEST_CASE("the FLOPs of a published model match its size") {
  const RunConfig config = read_run_config(std::string(MBLM_SOURCE_ROOT) + "/configs/pg19_1d_t.yaml", BlockRegistry());
  const ModelSummary summary = summarize_model(config.model, Model(config.model).parameters());
  CHECK(summary.parameters == 361451776);
  // 46.2e12 for 4 x 8192 bytes: 2 per weight of the layers, plus the attention scores.
  CHECK(summary.forward_flops() * 4 * 8192 == doctest::Approx(46.2e12).epsilon(0.005));
}

TEST_CASE("devices and kernels are listed") {
  CHECK(describe_devices().starts_with("cpu "));
  CHECK(describe_devices().find(runtime_of(DeviceKind::Cpu).multiplies_bfloat16(0) ? "bfloat16 is faster" : "bfloat16 is no faster") != std::string::npos);
  const std::string kernels = describe_kernels();
  const std::size_t at = kernels.find("rms_norm_forward ");
  REQUIRE(at != std::string::npos);
  CHECK(kernels.substr(at, kernels.find('\n', at) - at).find("  cpu: float32 float64") != std::string::npos);
  CHECK(kernels.find("rms_norm_backward ") < at);
}

}  // namespace mblm::testing
