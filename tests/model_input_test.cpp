// Model inputs: checks, padding and masks on the host.
#include "mblm/model_input.h"

#include <doctest/doctest.h>

#include "tests/error_text.h"
#include "tests/small_model.h"

namespace mblm::testing {
namespace {

constexpr std::int64_t pad = 39;

// A decoder with two stages: 5 patches of 4 bytes.
ModelConfig plain_config() {
  return config_of("[5, 4]", "[16, 8]", "[1, 1]", "{attn_head_dims: 8, attn_num_heads: 1, attn_use_rot_embs: true, pos_emb_type: fixed}");
}

ModelConfig masked_config(const std::string& strategy) {
  ModelConfig config = plain_config();
  config.masking = MaskingConfig{38, strategy};
  return config;
}

Tensor ids_of(const Shape& shape, const std::vector<std::int64_t>& values) { return from_values<std::int64_t>(shape, values); }
Tensor mask_of(const Shape& shape, const std::vector<std::uint8_t>& values) { return from_values<std::uint8_t>(shape, values); }
std::vector<std::int64_t> numbers(const Tensor& x) { return x.to_vector_as<std::int64_t>(); }

}  // namespace

TEST_CASE("ids are padded to whole patches, targets are not") {
  const ModelInput input = prepare_input(plain_config(), ids_of(Shape{2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  CHECK(input.ids.shape() == Shape{2, 2, 4});
  CHECK(numbers(input.ids) == std::vector<std::int64_t>{1, 2, 3, 4, 5, pad, pad, pad, 6, 7, 8, 9, 10, pad, pad, pad});
  CHECK(input.length == 5);
  CHECK_FALSE(input.is_nested);
  CHECK(input.token_masks.empty());
  CHECK(input.targets.shape() == Shape{2, 5});
  CHECK(numbers(input.targets) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK_FALSE(input.loss_mask.defined());
}

TEST_CASE("an input of whole patches is not copied, in either shape") {
  const Tensor ids = random_ids(3, 8);
  for (const bool nested : {false, true}) {
    const ModelInput input = prepare_input(plain_config(), nested ? ids.reshape(Shape{3, 2, 4}) : ids);
    CHECK(input.is_nested == nested);
    CHECK(input.length == 8);
    CHECK(input.ids.shape() == Shape{3, 2, 4});
    CHECK(input.ids.same_storage(ids));
    CHECK(input.targets.shape() == Shape{3, 8});
    CHECK(input.targets.same_storage(ids));
  }
  CHECK(prepare_input(plain_config(), empty(Shape{2, 0}, DType::Int64)).ids.shape() == Shape{2, 0, 4});
}

TEST_CASE("each stage of a masked model has a token mask that excludes padding") {
  const Tensor ids = ids_of(Shape{2, 6}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Tensor mask = mask_of(Shape{2, 6}, {1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 0});
  for (const bool any : {true, false}) {
    const ModelConfig config = masked_config(any ? "any" : "all");
    const ModelInput input = prepare_input(config, ids, mask);
    REQUIRE(input.token_masks.size() == 2);
    CHECK(input.token_masks[0].shape() == Shape{2, 2});
    CHECK(numbers(input.token_masks[0]) == (any ? std::vector<std::int64_t>{1, 1, 1, 0} : std::vector<std::int64_t>{1, 0, 0, 0}));
    CHECK(input.token_masks[1].shape() == Shape{4, 4});
    CHECK(numbers(input.token_masks[1]) == std::vector<std::int64_t>{1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0});
    CHECK_FALSE(input.targets.defined());
    CHECK(numbers(prepare_input(config, ids).token_masks[1]) == std::vector<std::int64_t>{1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0});
    CHECK(prepare_input(config, random_ids(2, 8)).token_masks.empty());
  }
}

TEST_CASE("labels are targets where the token mask is 1") {
  const Tensor ids = ids_of(Shape{1, 4}, {1, 2, 3, 4}), labels = ids_of(Shape{1, 4}, {5, no_label, 7, 8});
  const ModelInput input = prepare_input(masked_config("any"), ids, mask_of(Shape{1, 4}, {1, 1, 0, 1}), labels);
  CHECK(numbers(input.targets) == std::vector<std::int64_t>{5, no_label, no_label, 8});
  CHECK(numbers(labels) == std::vector<std::int64_t>{5, no_label, 7, 8});
}

TEST_CASE("invalid inputs are rejected") {
  const ModelConfig plain = plain_config(), masked = masked_config("any");
  const Tensor ids = ids_of(Shape{2, 2}, {1, 2, 3, 4}), mask = mask_of(Shape{2, 2}, {1, 1, 1, 1});
  const auto refusal = [&](const auto&... arguments) { return error_text<Error>([&] { prepare_input(arguments...); }); };
  CHECK(refusal(plain, Tensor()) == "input_ids: expected int64, got float32");
  CHECK(refusal(plain, mask) == "input_ids: expected int64, got uint8");
  CHECK(refusal(plain, ids.reshape(Shape{4})) == "input_ids: expected shape (B, L) or nested with 3 axes, got (4)");
  CHECK(refusal(plain, ids.reshape(Shape{1, 2, 2})) == "input_ids: expected patches of 4 on axis 2, got shape (1, 2, 2)");
  CHECK(refusal(plain, ids_of(Shape{2, 2}, {39, 0, 40, -1})) == "input_ids: expected ids in [0, 40), got 40 at position 2");
  CHECK(refusal(plain, ids_of(Shape{2, 2}, {39, -1, 40, 0})) == "input_ids: expected ids in [0, 40), got -1 at position 1");
  CHECK(refusal(plain, random_ids(1, 21)) == "input_ids: expected at most 20 ids, the fixed context of the model, got 21");
  CHECK(refusal(plain, ids, mask) == "token_mask: expected none, the model is not a masked language model");
  CHECK(refusal(plain, ids, Tensor(), ids) == "labels: expected none, the model is not a masked language model");
  CHECK(refusal(plain, ids, Tensor(), Tensor(), mask) == "loss_mask: expected a floating type, got uint8");
  CHECK(refusal(plain, ids, Tensor(), Tensor(), zeros(Shape{4}, DType::Float32)) == "loss_mask: expected the shape of the input, (2, 2), got (4)");
  CHECK(refusal(masked, ids, mask, mask) == "labels: expected int64, got uint8");
  CHECK(refusal(masked, ids, mask, ids_of(Shape{2, 2}, {0, no_label, 39, 40})) == "labels: expected -100 or ids in [0, 40), got 40 at position 3");
}

TEST_CASE("a prepared input gives the same results as its tensors") {
  const auto model = make_model(plain_config(), DType::Float64);
  const Tensor ids = random_ids(2, 7), weights = from_values<float>(Shape{2, 7}, {1, 0, 2, 1, 1, 1, 1, 0.5f, 1, 1, 0, 1, 1, 3});
  const ModelInput input = to_device(prepare_input(model->config(), ids, {}, {}, weights), Device{}, DType::Float64);
  CHECK(input.loss_mask.dtype() == DType::Float64);
  CHECK(model->logits(input).to_vector<double>() == model->logits(ids).to_vector<double>());
  CHECK(model->hidden_states(input).to_vector<double>() == model->hidden_states(ids).to_vector<double>());
  const Model::Loss loss = model->loss(input), same = model->loss(ids, weights);
  CHECK(loss.loss.item() == same.loss.item());
  CHECK(loss.count.item() == 12);
  CHECK(loss.elements.to_vector<double>() == same.elements.to_vector<double>());
  CHECK(error_text<ValueError>([&] { model->loss(ModelInput()); }) == "loss: expected a prepared input with ids, got none");
}

}  // namespace mblm::testing
