// Properties of masked language models for any weights.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/parallel.h"
#include "mblm/checkpoint.h"
#include "mblm/generate.h"
#include "tests/error_text.h"
#include "tests/op_case.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

constexpr std::int64_t vocabulary = 40, pad = 39, mask_token = 38;

ModelConfig config_of(const std::string& lens, const std::string& dims, const std::string& strategy = "any", const std::string& chunks = "null") {
  const std::int64_t stages = std::count(lens.begin(), lens.end(), ',') + 1;
  std::string layers = "[2", blocks = "[{attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed, ff_dropout: 0.1}";
  for (std::int64_t n = 1; n < stages; ++n) {
    layers += ", 1";
    blocks += ", {attn_head_dims: 6, attn_num_heads: 1, attn_use_rot_embs: false, pos_emb_type: rope, attn_dropout: 0.2}";
  }
  return parse_model_config(concat_text("mask_token_id: ", mask_token, "\nmask_reduce_strat: ", strategy, "\nmblm_config:\n  num_tokens: ", vocabulary,
                                        "\n  pad_token_id: ", pad, "\n  hidden_dims: ", dims, "\n  seq_lens: ", lens, "\n  num_layers: ", layers,
                                        "]\n  train_checkpoint_chunks: ", chunks, "\n  block: ", blocks, "]\n"),
                            "test", BlockRegistry());
}

std::vector<ModelConfig> all_kinds() {
  return {config_of("[20]", "[16]"), config_of("[5, 4]", "[15, 12]"), config_of("[5, 4]", "[16, 12]", "all"), config_of("[3, 4, 2]", "[16, 10, 8]")};
}

std::unique_ptr<Model> make_model(const ModelConfig& config, DType dtype = DType::Float64) {
  auto model = std::make_unique<Model>(config);
  model->allocate({}, dtype);
  model->initialize(1);
  return model;
}

Tensor random_ids(std::int64_t batch, std::int64_t length) {
  std::mt19937_64 random(7);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::int64_t& id : ids) id = static_cast<std::int64_t>(random() % mask_token);
  return from_values<std::int64_t>(Shape{batch, length}, ids);
}

Tensor ones(const Shape& shape) { return from_values<std::uint8_t>(shape, std::vector<std::uint8_t>(static_cast<std::size_t>(shape.numel()), 1)); }

ForwardContext attending_to(const Tensor& mask) {
  ForwardContext context;
  context.token_mask = mask;
  return context;
}

// For each byte of a sequence, whether its logits change when the byte at `at` changes.
std::vector<bool> changed_by(const Model& model, std::int64_t length, std::int64_t at, const ForwardContext& context) {
  const NoGradScope no_grad;
  const Tensor ids = random_ids(1, length);
  Tensor other = clone(ids);
  other.host_data<std::int64_t>()[at] = (other.host_data<std::int64_t>()[at] + 1) % mask_token;
  const HostArray a = to_host(model.logits(ids, context)), b = to_host(model.logits(other, context));
  std::vector<bool> changed(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < a.v.size(); ++i)
    if (a.v[i] != b.v[i]) changed[i / vocabulary] = true;
  return changed;
}

}  // namespace

TEST_CASE("each byte affects all bytes before and after it") {
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config);
    const std::int64_t length = config.context();
    for (const std::int64_t at : {std::int64_t{0}, length / 2, length - 1}) {
      const std::vector<bool> changed = changed_by(*model, length, at, {});
      for (std::size_t t = 0; t < changed.size(); ++t) CHECK_MESSAGE(changed[t], config.stages(), " stages: byte ", t, " after a change at ", at);
    }
  }
}

TEST_CASE("a token outside the mask does not affect other tokens") {
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config);
    const std::int64_t length = config.context(), patch = config.patch_bytes(0), begin = 2 * patch;  // the third token of stage 0
    Tensor mask = ones(Shape{1, length});
    std::fill_n(mask.host_data<std::uint8_t>() + begin, patch, 0);
    for (std::int64_t at = begin; at < begin + patch; ++at) {
      const std::vector<bool> changed = changed_by(*model, length, at, attending_to(mask));
      for (std::int64_t t = 0; t < length; ++t)
        if (t < begin || t >= begin + patch) CHECK_FALSE(changed[static_cast<std::size_t>(t)]);
      CHECK(changed[static_cast<std::size_t>(at)]);  // the token affects its own logits
    }
  }
}

TEST_CASE("a patch is in the mask if any, or all, of its bytes are") {
  for (const char* strategy : {"any", "all"}) {
    const auto model = make_model(config_of("[5, 4]", "[16, 12]", strategy));
    Tensor mask = ones(Shape{1, 20});
    mask.host_data<std::uint8_t>()[9] = 0;  // one byte of the third patch
    const std::vector<bool> changed = changed_by(*model, 20, 10, attending_to(mask));
    for (std::size_t t : {0, 7, 12, 19}) CHECK(changed[t] == (strategy == std::string("any")));
  }
}

TEST_CASE("without a mask the model attends to all bytes, and never to padding") {
  const NoGradScope no_grad;
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config);
    const Tensor ids = random_ids(3, 11);
    const HostArray logits = to_host(model->logits(ids));
    CHECK(concat_text(logits.shape) == "(3, 11, 40)");
    CHECK(to_host(model->logits(ids, attending_to(ones(Shape{3, 11})))).v == logits.v);
    // The same bytes with padding added by the caller.
    const std::int64_t patch = config.patch_bytes(0), length = (11 + patch - 1) / patch * patch;
    std::vector<std::int64_t> longer(static_cast<std::size_t>(3 * length), pad);
    std::vector<std::uint8_t> visible(longer.size(), 0);
    for (std::int64_t b = 0; b < 3; ++b) {
      std::copy_n(ids.host_data<std::int64_t>() + b * 11, 11, longer.begin() + b * length);
      std::fill_n(visible.begin() + b * length, 11, 1);
    }
    const HostArray padded = to_host(model->logits(from_values<std::int64_t>(Shape{3, length}, longer), attending_to(from_values<std::uint8_t>(Shape{3, length}, visible))));
    for (std::int64_t b = 0; b < 3; ++b)
      for (std::int64_t i = 0; i < 11 * vocabulary; ++i)
        REQUIRE(std::abs(padded.v[static_cast<std::size_t>(b * length * vocabulary + i)] - logits.v[static_cast<std::size_t>(b * 11 * vocabulary + i)]) < 1e-12);
    CHECK(concat_text(model->hidden_states(ids).shape()) == concat_text(Shape{3, 11, config.hidden_dims.back()}));
    CHECK(concat_text(model->logits(empty(Shape{2, 0}, DType::Int64)).shape()) == "(2, 0, 40)");
  }
}

TEST_CASE("an empty mask does not give NaN") {
  for (const ModelConfig& config : all_kinds()) {
    const auto model = make_model(config);
    const NoGradScope no_grad;
    for (const double v : to_host(model->logits(random_ids(2, 9), attending_to(zeros(Shape{2, 9}, DType::UInt8)))).v) REQUIRE(std::isfinite(v));
  }
}

TEST_CASE("nested input and embeddings give the same results as the flat input") {
  const NoGradScope no_grad;
  const ModelConfig config = config_of("[3, 4, 2]", "[16, 12, 8]");
  const auto model = make_model(config);
  const Tensor flat = random_ids(2, 24), nested = flat.reshape(Shape{2, 3, 4, 2});
  CHECK(concat_text(model->logits(nested).shape()) == "(2, 3, 4, 2, 40)");
  CHECK(to_host(model->logits(nested)).v == to_host(model->logits(flat)).v);
  CHECK(to_host(model->hidden_states(nested)).v == to_host(model->hidden_states(flat)).v);
  CHECK(to_host(model->hidden_states(model->embeddings(flat))).v == to_host(model->hidden_states(flat)).v);
}

TEST_CASE("the masked loss is the mean over the labels in the mask") {
  const NoGradScope no_grad;
  const auto model = make_model(config_of("[5, 4]", "[16, 12]"));
  const Tensor ids = random_ids(1, 10);
  std::vector<std::int64_t> labels(10, no_label);
  labels[2] = 5;
  labels[3] = pad;  // a padding label counts
  labels[7] = 6;    // outside the mask
  labels[9] = 7;    // weight 0.5
  Tensor mask = ones(Shape{1, 10});
  mask.host_data<std::uint8_t>()[7] = 0;
  std::vector<double> weights(10, 1.0);
  weights[9] = 0.5;
  const auto result = model->masked_loss(ids, from_values<std::int64_t>(Shape{1, 10}, labels), from_values<double>(Shape{1, 10}, weights), attending_to(mask));
  const HostArray logits = to_host(model->logits(ids, attending_to(mask))), elements = to_host(result.elements);
  CHECK(to_host(result.logits).v == logits.v);
  double total = 0;
  for (std::size_t t = 0; t < 10; ++t) {
    double sum = 0, expected = 0;
    for (std::size_t v = 0; v < vocabulary; ++v) sum += std::exp(logits.v[t * vocabulary + v]);
    if (t == 2 || t == 3 || t == 9) expected = weights[t] * (std::log(sum) - logits.v[t * vocabulary + static_cast<std::size_t>(labels[t])]);
    CHECK(elements.v[t] == doctest::Approx(expected));
    total += expected;
  }
  CHECK(result.count.item() == 3);
  CHECK(result.loss.item() == doctest::Approx(total / 3));
}

TEST_CASE("recomputed stages of an encoder give the same results") {
  const Tensor ids = random_ids(4, 18);
  std::vector<HostArray> values, gradients;
  for (const char* chunks : {"null", "[3]"}) {
    const auto model = make_model(config_of("[5, 4]", "[16, 12]", "any", chunks));
    ForwardContext context;
    context.training = true;
    context.token_mask = ones(ids.shape());
    for (const std::int64_t hidden : {3, 20, 21, 22, 23, 40}) context.token_mask.host_data<std::uint8_t>()[hidden] = 0;
    const auto result = model->masked_loss(ids, ids, {}, context);
    backward(result.loss);
    values.push_back(to_host(result.elements));
    gradients.push_back(to_host(model->parameters().gradients()));
  }
  CHECK(relative_error(values[1], values[0]) < 1e-12);
  CHECK(relative_error(gradients[1], gradients[0]) < 1e-12);
}

TEST_CASE("a masked step is bit-identical for any number of threads") {
  const int before = thread_count();
  std::vector<float> first;
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    const auto model = make_model(config_of("[5, 4]", "[16, 12]"), DType::Float32);
    const Tensor ids = random_ids(5, 19);
    ForwardContext context;
    context.training = true;
    backward(model->masked_loss(ids, ids, {}, context).loss);
    const std::vector<float> gradients = model->parameters().gradients().to_vector<float>();
    if (first.empty()) first = gradients;
    CHECK(gradients == first);
  }
  set_thread_count(before);
}

TEST_CASE("a masked model is loaded, and rejects unsupported operations") {
  const TemporaryFolder folder;
  const auto model = make_model(config_of("[5, 4]", "[16, 12]", "all"), DType::Float32);
  save_model(*model, folder.path() / "model.safetensors");
  const auto again = load_model(folder.path() / "model.safetensors", BlockRegistry());
  CHECK(to_yaml(again->config()) == to_yaml(model->config()));
  CHECK(again->parameters().values().to_vector<float>() == model->parameters().values().to_vector<float>());
  CHECK(static_cast<double>(model->parameters().count()) == parameter_count(model->config()));
  for (const NamedTensor& named : model->parameters().named_values()) CHECK_FALSE(named.name.starts_with("start_tokens"));

  const Tensor ids = random_ids(1, 5);
  CHECK(error_text<ValueError>([&] { generate(*model, std::vector<std::int64_t>{1}, 1, {}); }) ==
        "generate: expected a model that predicts the next byte, got a masked language model");
  CHECK(error_text<ValueError>([&] { model->loss(ids); }) == "loss: expected labels for a masked language model (masked_loss)");
  CHECK(error_text<ValueError>([&] { model->masked_loss(ids, from_values<std::int64_t>(Shape{1, 5}, {1, 2, 40, 4, -100})); }) ==
        "labels: expected -100 or ids in [0, 40), got 40 at position 2");
  CHECK(error_text<ShapeError>([&] { model->masked_loss(ids, random_ids(1, 4)); }) == "labels: expected the shape of the input, (1, 5), got (1, 4)");
  CHECK(error_text<ShapeError>([&] { model->logits(ids, attending_to(ones(Shape{1, 4}))); }) ==
        "token_mask: expected the shape of the input, (1, 5), got (1, 4)");
  CHECK(error_text<DTypeError>([&] { model->logits(ids, attending_to(ids)); }) == "token_mask: expected uint8, got int64");
  CHECK(model->hierarchy().block(0).start(1) == nullptr);
}

}  // namespace mblm::testing
