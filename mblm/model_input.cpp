#include "mblm/model_input.h"

#include <algorithm>
#include <span>

#include "engine/error.h"
#include "ops/cast.h"

namespace mblm {
namespace {

// The nested shape for ids (B, L) or nested ids, rounded up to whole tokens of stage 0.
Shape nested_shape(const ModelConfig& config, const Tensor& ids, bool is_nested) {
  std::vector<std::int64_t> sizes{ids.size(0), 0};
  for (std::size_t n = 1; n < config.seq_lens.size(); ++n) {
    sizes.push_back(config.seq_lens[n]);
    require<ShapeError>(!is_nested || ids.size(static_cast<int>(n) + 1) == sizes.back(), "input_ids: expected patches of ", sizes.back(), " on axis ",
                        n + 1, ", got shape ", ids.shape());
  }
  const std::int64_t patch = config.patch_bytes(0), length = is_nested ? ids.size(1) * patch : ids.size(1);
  sizes[1] = (length + patch - 1) / patch;
  require<ValueError>(!config.fixed_context() || sizes[1] <= config.seq_lens[0], "input_ids: expected at most ", config.context(),
                      " ids, the fixed context of the model, got ", length);
  return Shape(std::span<const std::int64_t>(sizes));
}

void check_ids(const Tensor& ids, std::int64_t vocabulary) {
  const std::int64_t *begin = ids.host_data<std::int64_t>(), *end = begin + ids.numel();
  const std::int64_t* bad = std::find_if(begin, end, [=](std::int64_t id) { return id < 0 || id >= vocabulary; });
  if (bad != end) throw ValueError(concat_text("input_ids: expected ids in [0, ", vocabulary, "), got ", *bad, " at position ", bad - begin));
}

void check_token_mask(const ModelConfig& config, const Tensor& mask, const Shape& shape) {
  require<ValueError>(config.is_masked(), "token_mask: expected none, the model is not a masked language model");
  require<DTypeError>(mask.dtype() == DType::UInt8, "token_mask: expected uint8, got ", mask.dtype());
  require<ShapeError>(mask.shape() == shape, "token_mask: expected the shape of the input, ", shape, ", got ", mask.shape());
}

// Extends the sequences of x from `length` to those of `shape` with `padding` at the end of each.
template <class T>
Tensor padded(const Tensor& x, std::int64_t length, const Shape& shape, T padding) {
  if (x.numel() == shape.numel()) return x.reshape(shape);
  std::vector<T> values(static_cast<std::size_t>(shape.numel()), padding);
  const std::int64_t longer = shape.numel() / shape[0];
  for (std::int64_t b = 0; b < shape[0]; ++b) std::copy_n(x.host_data<T>() + b * length, length, values.begin() + b * longer);
  return from_values<T>(shape, values);
}

Tensor counted_labels(const ModelConfig& config, const Tensor& ids, const Tensor& labels, const Tensor& token_mask) {
  require<ValueError>(config.is_masked(), "labels: expected none, the model is not a masked language model");
  require<DTypeError>(labels.dtype() == DType::Int64, "labels: expected int64, got ", labels.dtype());
  require<ShapeError>(labels.shape() == ids.shape(), "labels: expected the shape of the input, ", ids.shape(), ", got ", labels.shape());
  std::vector<std::int64_t> counted = labels.to_vector<std::int64_t>();
  const std::uint8_t* visible = token_mask.defined() ? token_mask.host_data<std::uint8_t>() : nullptr;
  for (std::size_t i = 0; i < counted.size(); ++i) {
    const bool known = counted[i] == no_label || (counted[i] >= 0 && counted[i] < config.num_tokens);
    require<ValueError>(known, "labels: expected ", no_label, " or ids in [0, ", config.num_tokens, "), got ", counted[i], " at position ", i);
    if (visible != nullptr && visible[i] == 0) counted[i] = no_label;
  }
  return from_values<std::int64_t>(labels.shape(), counted);
}

Tensor ones(const Shape& shape) { return from_values<std::uint8_t>(shape, std::vector<std::uint8_t>(static_cast<std::size_t>(shape.numel()), 1)); }

}  // namespace

std::vector<std::int64_t> ids_of(std::string_view bytes) {
  std::vector<std::int64_t> ids;
  ids.reserve(bytes.size());
  for (const char byte : bytes) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

ModelInput prepare_input(const ModelConfig& config, const Tensor& ids, const Tensor& token_mask, const Tensor& labels, const Tensor& loss_mask) {
  require<DTypeError>(ids.defined() && ids.dtype() == DType::Int64, "input_ids: expected int64, got ", ids.dtype());
  ModelInput input;
  input.is_nested = config.stages() > 1 && ids.rank() == config.stages() + 1;
  require<ShapeError>(input.is_nested || ids.rank() == 2, "input_ids: expected shape (B, L) or nested with ", config.stages() + 1, " axes, got ",
                      ids.shape());
  check_ids(ids, config.num_tokens);
  const Shape shape = nested_shape(config, ids, input.is_nested);
  input.length = ids.size(0) == 0 ? 0 : ids.numel() / ids.size(0);
  input.ids = padded(ids, input.length, shape, config.pad_token_id);
  const Shape flat{ids.size(0), input.length};
  if (loss_mask.defined()) {
    require<DTypeError>(is_floating(loss_mask.dtype()), "loss_mask: expected a floating type, got ", loss_mask.dtype());
    require<ShapeError>(loss_mask.shape() == ids.shape(), "loss_mask: expected the shape of the input, ", ids.shape(), ", got ", loss_mask.shape());
    input.loss_mask = loss_mask.detach().reshape(flat);
  }
  if (token_mask.defined()) check_token_mask(config, token_mask, ids.shape());
  if (config.is_masked() && (token_mask.defined() || ids.numel() != shape.numel()))
    input.token_masks = stage_masks(config, padded<std::uint8_t>(token_mask.defined() ? token_mask : ones(ids.shape()), input.length, shape, 0), shape);
  if (labels.defined()) input.targets = counted_labels(config, ids, labels, token_mask).reshape(flat);
  else if (!config.is_masked()) input.targets = ids.reshape(flat);
  return input;
}

std::vector<Tensor> stage_masks(const ModelConfig& config, const Tensor& token_mask, const Shape& shape) {
  if (!token_mask.defined()) return {};
  check_token_mask(config, token_mask, shape);
  if (shape.numel() == 0) return {};
  const bool any = config.masking->mask_reduce_strat == "any";
  const auto is_visible = [](std::uint8_t byte) { return byte != 0; };
  const std::uint8_t* bytes = token_mask.host_data<std::uint8_t>();
  std::vector<Tensor> masks;
  std::int64_t sequences = shape[0];
  for (int n = 0; n < config.stages(); ++n) {
    const std::int64_t patch = config.patch_bytes(n), tokens = shape[n + 1];
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(sequences * tokens));
    for (std::size_t t = 0; t < mask.size(); ++t) {
      const std::uint8_t *begin = bytes + static_cast<std::int64_t>(t) * patch, *end = begin + patch;
      mask[t] = any ? std::any_of(begin, end, is_visible) : std::all_of(begin, end, is_visible);
    }
    masks.push_back(from_values<std::uint8_t>(Shape{sequences, tokens}, mask));
    sequences *= tokens;
  }
  return masks;
}

ModelInput to_device(const ModelInput& input, Device device, DType values_dtype) {
  const auto moved = [device](const Tensor& x) { return x.defined() ? to_device(x, device) : x; };
  ModelInput there = input;
  there.ids = moved(input.ids);
  for (Tensor& mask : there.token_masks) mask = moved(mask);
  there.targets = moved(input.targets);
  there.loss_mask = moved(input.loss_mask);
  if (there.loss_mask.defined() && there.loss_mask.dtype() != values_dtype) there.loss_mask = cast(there.loss_mask, values_dtype);
  return there;
}

}  // namespace mblm
