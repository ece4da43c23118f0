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

}  // namespace

Model::Model(const ModelConfig& config) : config_(checked(config)), hierarchy_(config_, store_) {
  to_logits_ = add_linear(Scope(store_, ""), "to_logits", config_.hidden_dims.back(), config_.num_tokens);
}

void Model::allocate(Device device, DType dtype) { store_.allocate(device, dtype); }

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

Tensor Model::logits(const Tensor& input_ids, const ForwardContext& context) const {
  const Tensor ids = nested_ids(input_ids);
  const Tensor local = hierarchy_.forward(ids, context);
  if (ids.numel() == 0) return to_logits_(flatten_patches(local, 0, 1));
  if (!is_nested(config_, input_ids)) return to_logits_(flatten_patches(local, 1, input_ids.size(1)));
  const int last = ids.rank() - 1;
  return to_logits_(local.reshape([&] {
    std::vector<std::int64_t> sizes(ids.shape().begin(), ids.shape().end());
    sizes[static_cast<std::size_t>(last)] += 1;
    sizes.push_back(local.shape().last());
    return Shape(std::span<const std::int64_t>(sizes));
  }()));
}

Tensor Model::hidden_states(const Tensor& input_ids, const ForwardContext& context) const {
  const Tensor ids = nested_ids(input_ids);
  const std::int64_t batch = input_ids.size(0), length = batch == 0 ? 0 : input_ids.numel() / batch;
  const Tensor flat = flatten_patches(hierarchy_.forward(ids, context), 1, length);
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
  return flatten_patches(hierarchy_.forward_embeddings(embeddings, context), 1, length).reshape(shape);
}

Model::Loss Model::loss(const Tensor& input_ids, const Tensor& loss_mask, const ForwardContext& context) const {
  const Tensor ids = nested_ids(input_ids);
  const std::int64_t batch = input_ids.size(0), length = batch == 0 ? 0 : input_ids.numel() / batch;
  Tensor mask;
  if (loss_mask.defined()) {
    require<ShapeError>(loss_mask.shape() == input_ids.shape(), "loss_mask: expected the shape of the input, ", input_ids.shape(), ", got ",
                        loss_mask.shape());
    mask = to_device(loss_mask, store_.values().device()).reshape(Shape{batch, length});
  }
  const Tensor targets = to_device(input_ids, store_.values().device()).reshape(Shape{batch, length});
  const Tensor rows = flatten_patches(hierarchy_.forward(ids, context), 0, length);  // what each byte is predicted from
  const CrossEntropy result = cross_entropy(to_logits_(rows), targets, config_.pad_token_id, mask);
  return {result.loss, result.elements, result.count};
}

}  // namespace mblm
