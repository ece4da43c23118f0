#include "mblm/model.h"

#include <algorithm>
#include <utility>

#include "ops/check.h"
#include "ops/cross_entropy.h"
#include "ops/embedding.h"
#include "ops/sequence.h"

namespace mblm {
namespace {

// The ids on the CPU.
std::vector<std::int64_t> host_ids(const Tensor& ids) { return ids.to_vector<std::int64_t>(); }

bool is_nested(const ModelConfig& config, const Tensor& ids) { return config.stages() > 1 && ids.rank() == config.stages() + 1; }

const ModelConfig& checked(const ModelConfig& config) {
  check_model_config(config);
  return config;
}

// Elements after the batch axis.
std::int64_t numel_per_sequence(const Tensor& x) { return x.size(0) == 0 ? 0 : x.numel() / x.size(0); }

void check_token_mask(const ModelConfig& config, const Tensor& mask, const Shape& shape) {
  if (!mask.defined()) return;
  require<ValueError>(config.is_masked(), "token_mask: expected none, the model is no masked language model");
  require<DTypeError>(mask.dtype() == DType::UInt8, "token_mask: expected uint8, got ", mask.dtype());
  require<ShapeError>(mask.shape() == shape, "token_mask: expected the shape of the input, ", shape, ", got ", mask.shape());
}

// The labels, on the CPU: no_label outside the attention mask.
Tensor counted_labels(const ModelConfig& config, const Tensor& input_ids, const Tensor& labels, const Tensor& attention_mask) {
  require<DTypeError>(labels.defined() && labels.dtype() == DType::Int64, "labels: expected int64, got ", labels.dtype());
  require<ShapeError>(labels.shape() == input_ids.shape(), "labels: expected the shape of the input, ", input_ids.shape(), ", got ", labels.shape());
  std::vector<std::int64_t> counted = labels.to_vector<std::int64_t>();
  const std::vector<std::uint8_t> visible = attention_mask.defined() ? attention_mask.to_vector<std::uint8_t>() : std::vector<std::uint8_t>();
  for (std::size_t i = 0; i < counted.size(); ++i) {
    const bool known = counted[i] == no_label || (counted[i] >= 0 && counted[i] < config.num_tokens);
    require<ValueError>(known, "labels: expected ", no_label, " or ids in [0, ", config.num_tokens, "), got ", counted[i], " at position ", i);
    if (!visible.empty() && visible[i] == 0) counted[i] = no_label;
  }
  return from_values<std::int64_t>(labels.shape(), counted);
}

}  // namespace

Model::Model(const ModelConfig& config) : config_(checked(config)), hierarchy_(config_, store_) {
  to_logits_ = add_linear(Scope(store_, ""), "to_logits", config_.hidden_dims.back(), config_.num_tokens);
}

void Model::allocate(Device device, DType precision) {
  const bool narrow = precision == DType::BFloat16;
  store_.allocate(device, narrow ? DType::Float32 : precision, narrow);
}

DType precision_named(const std::optional<std::string>& name, Device device) {
  if (!name) return device.kind == DeviceKind::Cpu ? DType::Float32 : DType::BFloat16;
  require<ConfigError>(*name == "float32" || *name == "bfloat16", "precision: expected float32 or bfloat16, got ", *name);
  return *name == "bfloat16" ? DType::BFloat16 : DType::Float32;
}

// (B, L) or nested -> (B, P, P_1, ..., P_{N-1}), padded on the right to whole tokens of stage 0.
Tensor Model::nested_ids(const Tensor& input_ids) const {
  require<DTypeError>(input_ids.defined() && input_ids.dtype() == DType::Int64, "input_ids: expected int64, got ", input_ids.dtype());
  const bool nested = is_nested(config_, input_ids);
  require<ShapeError>(nested || input_ids.rank() == 2, "input_ids: expected shape (B, L) or nested with ", config_.stages() + 1, " axes, got ",
                      input_ids.shape());
  check_ids(input_ids, config_.num_tokens);
  const Device device = store_.values().device();
  std::vector<std::int64_t> sizes{input_ids.size(0), 0};
  for (std::size_t n = 1; n < config_.seq_lens.size(); ++n) {
    sizes.push_back(config_.seq_lens[n]);
    require<ShapeError>(!nested || input_ids.size(static_cast<int>(n) + 1) == sizes.back(), "input_ids: expected patches of ", sizes.back(),
                        " on axis ", n + 1, ", got shape ", input_ids.shape());
  }
  const std::int64_t patch = config_.patch_bytes(0), length = nested ? input_ids.size(1) * patch : input_ids.size(1);
  sizes[1] = (length + patch - 1) / patch;
  require<ValueError>(!config_.fixed_context() || sizes[1] <= config_.seq_lens[0], "input_ids: expected at most ", config_.context(),
                      " ids, the fixed context of the model, got ", length);
  const Shape shape{std::span<const std::int64_t>(sizes)};
  if (length == sizes[1] * patch) return to_device(input_ids, device).reshape(shape);
  const std::vector<std::int64_t> given = host_ids(input_ids);
  std::vector<std::int64_t> padded(static_cast<std::size_t>(shape.numel()), config_.pad_token_id);
  for (std::int64_t b = 0; b < sizes[0]; ++b) std::copy_n(given.begin() + b * length, length, padded.begin() + b * sizes[1] * patch);
  return from_values<std::int64_t>(shape, padded, device);
}

ForwardContext Model::stage_context(const Tensor& input_ids, const Tensor& ids, const ForwardContext& context) const {
  const std::int64_t batch = ids.size(0), given = numel_per_sequence(input_ids), padded = numel_per_sequence(ids);
  const Tensor& mask = context.token_mask;
  check_token_mask(config_, mask, input_ids.shape());
  if (!config_.is_masked() || given == padded) return context;
  const std::vector<std::uint8_t> bytes = mask.defined() ? mask.to_vector<std::uint8_t>() : std::vector<std::uint8_t>(static_cast<std::size_t>(batch * given), 1);
  std::vector<std::uint8_t> all(static_cast<std::size_t>(batch * padded), 0);
  for (std::int64_t b = 0; b < batch; ++b) std::copy_n(bytes.begin() + b * given, given, all.begin() + b * padded);
  ForwardContext padded_context = context;
  padded_context.token_mask = from_values<std::uint8_t>(Shape{batch, padded}, all);
  return padded_context;
}

Tensor Model::local_rows(const Tensor& local, Rows rows, std::int64_t length) const {
  if (!config_.is_masked()) return flatten_patches(local, rows == Rows::AtBytes ? 1 : 0, length);
  return slice_sequence(local.reshape(Shape{local.size(0), local.size(1) * local.size(2), local.size(3)}), 0, length);
}

Tensor Model::logits(const Tensor& input_ids, const ForwardContext& context) const {
  const Tensor ids = nested_ids(input_ids);
  const Tensor local = hierarchy_.forward(ids, stage_context(input_ids, ids, context));
  if (ids.numel() == 0 && !config_.is_masked()) return to_logits_(local_rows(local, Rows::Predictors, 1));
  if (!is_nested(config_, input_ids)) return to_logits_(local_rows(local, Rows::AtBytes, input_ids.size(1)));
  std::vector<std::int64_t> sizes(ids.shape().begin(), ids.shape().end());
  sizes.back() = local.size(2);
  sizes.push_back(local.size(3));
  return to_logits_(local.reshape(Shape(std::span<const std::int64_t>(sizes))));
}

Tensor Model::hidden_states(const Tensor& input_ids, const ForwardContext& context) const {
  const Tensor ids = nested_ids(input_ids);
  const Tensor flat = local_rows(hierarchy_.forward(ids, stage_context(input_ids, ids, context)), Rows::AtBytes, numel_per_sequence(input_ids));
  if (!is_nested(config_, input_ids)) return flat;
  std::vector<std::int64_t> sizes(ids.shape().begin(), ids.shape().end());
  sizes.push_back(flat.shape().last());
  return flat.reshape(Shape(std::span<const std::int64_t>(sizes)));
}

std::vector<Tensor> Model::embeddings(const Tensor& input_ids) const { return hierarchy_.embeddings(nested_ids(input_ids)); }

void Model::check_embeddings(std::span<const Tensor> embeddings) const {
  const auto stages = static_cast<std::size_t>(config_.stages());
  require<ShapeError>(embeddings.size() == stages, "embeddings: expected ", stages, ", one per stage, got ", embeddings.size());
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
    const std::string what = concat_text("those of stage ", n);
    require_shape("embeddings", what, given, Shape(std::span<const std::int64_t>(expected)));
    require_dtype("embeddings", what, given, store_.values().dtype());
  }
}

Tensor Model::hidden_states(std::span<const Tensor> embeddings, const ForwardContext& context) const {
  check_embeddings(embeddings);
  const Shape& shape = embeddings.front().shape();
  const std::int64_t length = shape[0] == 0 ? 0 : shape.rows() / shape[0];
  check_token_mask(config_, context.token_mask, Shape(std::span(shape.begin(), shape.end() - 1)));
  return local_rows(hierarchy_.forward_embeddings(embeddings, context), Rows::AtBytes, length).reshape(shape);
}

Tensor Model::flat_loss_mask(const Tensor& input_ids, const Tensor& loss_mask) const {
  if (!loss_mask.defined()) return {};
  require<ShapeError>(loss_mask.shape() == input_ids.shape(), "loss_mask: expected the shape of the input, ", input_ids.shape(), ", got ",
                      loss_mask.shape());
  return to_device(loss_mask, store_.values().device()).reshape(Shape{input_ids.size(0), numel_per_sequence(input_ids)});
}

Model::Loss Model::loss(const Tensor& input_ids, const Tensor& loss_mask, const ForwardContext& context) const {
  require<ValueError>(!config_.is_masked(), "loss: expected labels for a masked language model (masked_loss)");
  const Tensor ids = nested_ids(input_ids), mask = flat_loss_mask(input_ids, loss_mask);
  const std::int64_t batch = input_ids.size(0), length = numel_per_sequence(input_ids);
  const Tensor targets = to_device(input_ids, store_.values().device()).reshape(Shape{batch, length});
  const Tensor rows = local_rows(hierarchy_.forward(ids, stage_context(input_ids, ids, context)), Rows::Predictors, length);
  const Tensor logits = to_logits_(rows);
  const CrossEntropy result = cross_entropy(logits, targets, config_.pad_token_id, mask);
  return {result.loss, result.elements, result.count, logits.detach()};
}

Model::Loss Model::masked_loss(const Tensor& input_ids, const Tensor& labels, const Tensor& loss_mask, const ForwardContext& context) const {
  require<ValueError>(config_.is_masked(), "masked_loss: expected a masked language model");
  const Tensor ids = nested_ids(input_ids), mask = flat_loss_mask(input_ids, loss_mask);
  const std::int64_t length = numel_per_sequence(input_ids);
  const ForwardContext stages = stage_context(input_ids, ids, context);
  const Tensor targets = counted_labels(config_, input_ids, labels, context.token_mask);
  const Tensor logits = to_logits_(local_rows(hierarchy_.forward(ids, stages), Rows::AtBytes, length));
  const CrossEntropy result =
      cross_entropy(logits, to_device(targets, store_.values().device()).reshape(Shape{ids.size(0), length}), no_label, mask);
  return {result.loss, result.elements, result.count, logits.detach()};
}

}  // namespace mblm
