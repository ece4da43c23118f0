#include "mblm/model.h"

#include <span>
#include <vector>

#include "ops/cast.h"
#include "ops/check.h"
#include "ops/cross_entropy.h"
#include "ops/sequence.h"

namespace mblm {
namespace {

const ModelConfig& checked(const ModelConfig& config) {
  check_model_config(config);
  return config;
}

// Moves a caller's tensor to the CPU.
Tensor on_host(const Tensor& x) { return x.defined() ? to_device(x, Device{}) : x; }

// The shape of nested ids with `tokens` tokens in each local patch and a vector of `width` for each token.
Shape nested_shape(const Shape& ids, std::int64_t tokens, std::int64_t width) {
  std::vector<std::int64_t> sizes(ids.begin(), ids.end());
  sizes.back() = tokens;
  sizes.push_back(width);
  return Shape(std::span<const std::int64_t>(sizes));
}

}  // namespace

Model::Model(const ModelConfig& config) : config_(checked(config)), hierarchy_(config_, store_) {
  to_logits_ = add_linear(Scope(store_, ""), "to_logits", config_.hidden_dims.back(), config_.num_tokens);
}

void Model::allocate(Device device, DType precision, Gradients gradients) {
  const bool narrow = precision == DType::BFloat16;
  store_.allocate(device, narrow ? DType::Float32 : precision, narrow, gradients);
}

DType precision_named(const std::optional<std::string>& name, Device device) {
  if (!name) return device.kind == DeviceKind::Cpu ? DType::Float32 : DType::BFloat16;
  require<ConfigError>(*name == "float32" || *name == "bfloat16", "precision: expected float32 or bfloat16, got ", *name);
  return *name == "bfloat16" ? DType::BFloat16 : DType::Float32;
}

ModelInput Model::prepared(const Tensor& input_ids, const Tensor& token_mask, const Tensor& labels, const Tensor& loss_mask) const {
  const Tensor& values = store_.values();
  return to_device(prepare_input(config_, on_host(input_ids), on_host(token_mask), on_host(labels), on_host(loss_mask)), values.device(), values.dtype());
}

Tensor Model::local_rows(const Tensor& local, Rows rows, std::int64_t length) const {
  if (!config_.is_masked()) return flatten_patches(local, rows == Rows::AtBytes ? 1 : 0, length);
  return slice_sequence(local.reshape(Shape{local.size(0), local.size(1) * local.size(2), local.size(3)}), 0, length);
}

Tensor Model::to_logits(const Tensor& rows) const { return to_logits_(rows, store_.values().dtype()); }

Tensor Model::logits(const Tensor& input_ids, const ForwardContext& context) const { return logits(prepared(input_ids, context.token_mask), context); }

Tensor Model::logits(const ModelInput& input, const ForwardContext& context) const {
  const Tensor local = hierarchy_.forward(input.ids, input.token_masks, context);
  if (input.ids.numel() == 0 && !config_.is_masked()) return to_logits(local_rows(local, Rows::Predictors, 1));
  if (!input.is_nested) return to_logits(local_rows(local, Rows::AtBytes, input.length));
  return to_logits(local.reshape(nested_shape(input.ids.shape(), local.size(2), local.size(3))));
}

Tensor Model::hidden_states(const Tensor& input_ids, const ForwardContext& context) const {
  return hidden_states(prepared(input_ids, context.token_mask), context);
}

Tensor Model::hidden_states(const ModelInput& input, const ForwardContext& context) const {
  const Tensor flat = cast(local_rows(hierarchy_.forward(input.ids, input.token_masks, context), Rows::AtBytes, input.length), store_.values().dtype());
  return input.is_nested ? flat.reshape(nested_shape(input.ids.shape(), input.ids.shape().last(), flat.shape().last())) : flat;
}

std::vector<Tensor> Model::embeddings(const Tensor& input_ids) const {
  std::vector<Tensor> all = hierarchy_.embeddings(prepared(input_ids).ids);
  for (Tensor& one : all) one = cast(one, store_.values().dtype());
  return all;
}

void Model::check_embeddings(std::span<const Tensor> embeddings) const {
  const auto stages = static_cast<std::size_t>(config_.stages());
  require<ShapeError>(embeddings.size() == stages, "embeddings: expected ", stages, stages == 1 ? " tensor" : " tensors", ", one per stage, got ",
                      embeddings.size());
  require<ShapeError>(embeddings.front().rank() == config_.stages() + 2, "embeddings: expected shape (B, P, ..., D) with ", stages + 2,
                      " axes for the local stage, got ", embeddings.front().shape());
  std::vector<std::int64_t> sizes{embeddings.front().size(0), embeddings.front().size(1)};
  require<ValueError>(!config_.fixed_context() || sizes[1] <= config_.seq_lens[0], "embeddings: expected at most ", config_.seq_lens[0],
                      " tokens of stage 0, the fixed context of the model, got ", sizes[1]);
  for (std::size_t n = 0; n < stages; ++n) {
    if (n > 0) sizes.push_back(config_.seq_lens[n]);
    std::vector<std::int64_t> expected = sizes;
    expected.push_back(config_.hidden_dims[n]);
    const Tensor& given = embeddings[stages - 1 - n];
    const std::string what = concat_text("stage ", n);
    require_shape("embeddings", what, given, Shape(std::span<const std::int64_t>(expected)));
    require_dtype("embeddings", what, given, store_.values().dtype());
  }
}

Tensor Model::hidden_states(std::span<const Tensor> embeddings, const ForwardContext& context) const {
  check_embeddings(embeddings);
  const Shape& shape = embeddings.front().shape();
  const std::int64_t length = shape[0] == 0 ? 0 : shape.rows() / shape[0];
  std::vector<Tensor> masks = stage_masks(config_, on_host(context.token_mask), Shape(std::span(shape.begin(), shape.end() - 1)));
  for (Tensor& mask : masks) mask = to_device(mask, store_.values().device());
  const Tensor rows = local_rows(hierarchy_.forward_embeddings(embeddings, masks, context), Rows::AtBytes, length);
  return cast(rows, store_.values().dtype()).reshape(shape);
}

Model::Loss Model::loss(const Tensor& input_ids, const Tensor& loss_mask, const ForwardContext& context) const {
  require<ValueError>(!config_.is_masked(), "loss: expected labels for a masked language model (masked_loss)");
  return loss(prepared(input_ids, context.token_mask, {}, loss_mask), context);
}

Model::Loss Model::masked_loss(const Tensor& input_ids, const Tensor& labels, const Tensor& loss_mask, const ForwardContext& context) const {
  require<ValueError>(config_.is_masked(), "masked_loss: expected a masked language model");
  return loss(prepared(input_ids, context.token_mask, labels, loss_mask), context);
}

Tensor Model::prediction_logits(const ModelInput& input, const ForwardContext& context) const {
  const Rows rows = config_.is_masked() ? Rows::AtBytes : Rows::Predictors;
  return to_logits(local_rows(hierarchy_.forward(input.ids, input.token_masks, context), rows, input.length));
}

Model::Loss Model::loss(const ModelInput& input, const ForwardContext& context) const {
  require<ValueError>(input.targets.defined(), "loss: expected a prepared input with ", config_.is_masked() ? "labels" : "ids", ", got none");
  const Tensor logits = prediction_logits(input, context);
  const CrossEntropy result = cross_entropy(logits, input.targets, ignored_target(), input.loss_mask);
  return {result.loss, result.elements, result.count, logits.detach()};
}

}  // namespace mblm
