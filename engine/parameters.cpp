#include "engine/parameters.h"

#include <algorithm>
#include <utility>

#include "engine/autograd.h"
#include "engine/elementwise.h"
#include "engine/kernel_data.h"
#include "engine/parallel.h"

namespace mblm {
namespace {

Tensor arena_view(const Tensor& arena, std::int64_t offset, const Shape& shape) {
  return arena.slice(offset, offset + shape.numel()).reshape(shape);
}

Tensor weight_arena(std::int64_t elements, DType dtype, Device device) {
  Tensor arena = empty(Shape{elements}, dtype, device);
  runtime_of(device.kind).expect_repeated_reads(device.index, raw(arena), arena.bytes());
  fill_zero(arena);
  return arena;
}

// A constant in the element type of files; a converted one is on the CPU.
Tensor as_stored(const Tensor& constant) {
  if (constant.dtype() != DType::Float64) return constant;
  return from_values<float>(constant.shape(), constant.to_vector_as<float>());
}

// values[i] = f(i), on all threads.
template <class F>
void fill_elements(std::span<float> values, const F& f) {
  constexpr std::int64_t tile = 1 << 16;
  parallel_tiles(static_cast<std::int64_t>(values.size()), tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] = f(static_cast<std::size_t>(i));
  });
}

}  // namespace

Init Init::constant(float value) {
  return {[value](RandomKey, std::span<float> values, std::int64_t) { std::fill(values.begin(), values.end(), value); }};
}

Init Init::uniform(float bound) {
  return {[bound](RandomKey key, std::span<float> values, std::int64_t) {
    fill_elements(values, [&](std::size_t i) { return bound * (2.0f * random_uniform(key, i) - 1.0f); });
  }};
}

Init Init::normal() {
  return {[](RandomKey key, std::span<float> values, std::int64_t) {
    fill_elements(values, [&](std::size_t i) { return random_normal(key, i); });
  }};
}

Init Init::scaled(float factor) const {
  return {[factor, base = fill](RandomKey key, std::span<float> values, std::int64_t width) {
    base(key, values, width);
    for (float& value : values) value *= factor;
  }};
}

Init Init::with_zero_row(std::int64_t row) const {
  return {[row, base = fill](RandomKey key, std::span<float> values, std::int64_t width) {
    base(key, values, width);
    require<ValueError>(row >= 0 && row < static_cast<std::int64_t>(values.size()) / std::max<std::int64_t>(1, width), "init: no row ", row, " in ",
                        values.size(), " values with rows of ", width);
    for (float& value : values.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width))) value = 0.0f;
  }};
}

const Tensor& Parameter::tensor() const {
  require(tensor_.defined(), name(), ": the parameter is not allocated yet");
  return tensor_;
}

Tensor Parameter::as(DType dtype) const {
  if (dtype == tensor().dtype()) return tensor();
  require<DTypeError>(dtype == DType::BFloat16 && bfloat16_.defined(), name(), ": there is no ", dtype, " copy of the parameters");
  return bfloat16_;
}

void ParameterStore::check_name(const std::string& name) const {
  const auto is_name = [&](const ParameterPart& part) { return part.name == name; };
  bool taken = std::any_of(constants_.begin(), constants_.end(), [&](const auto& constant) { return constant->name() == name; });
  for (const auto& parameter : parameters_) taken = taken || std::any_of(parameter->parts().begin(), parameter->parts().end(), is_name);
  require<ValueError>(!taken, "parameters: duplicate name ", name);
}

Parameter& ParameterStore::add(std::string name, const Shape& shape, Init init) { return add_merged({{std::move(name), shape, std::move(init)}}); }

Parameter& ParameterStore::add_merged(std::vector<ParameterPart> parts) {
  require(!values_.defined(), "parameters: cannot add ", parts.front().name, " after allocate()");
  auto parameter = std::make_unique<Parameter>();
  parameter->shape_ = parts.front().shape;
  if (parts.size() > 1) {
    std::int64_t rows = 0;
    for (const ParameterPart& part : parts) {
      require<ShapeError>(part.shape.without_first() == parts.front().shape.without_first(), "parameters: cannot stack ", part.name, " ",
                          part.shape, " on ", parts.front().name, " ", parts.front().shape);
      rows += part.shape[0];
    }
    parameter->shape_ = parts.front().shape.with(0, rows);
  }
  for (auto part = parts.begin(); part != parts.end(); ++part) {
    check_name(part->name);
    require<ValueError>(std::none_of(parts.begin(), part, [&](const ParameterPart& other) { return other.name == part->name; }), "parameters: duplicate name ",
                        part->name);
  }
  for (const ParameterPart& part : parts) sites_.add(part.name);
  parameter->parts_ = std::move(parts);
  parameters_.push_back(std::move(parameter));
  return *parameters_.back();
}

const Constant& ParameterStore::add_constant(std::string name, Tensor value) {
  require(!values_.defined(), "parameters: cannot add the constant ", name, " after allocate()");
  if (!name.empty()) check_name(name);
  auto constant = std::make_unique<Constant>();
  constant->name_ = std::move(name);
  constant->tensor_ = std::move(value);
  constants_.push_back(std::move(constant));
  return *constants_.back();
}

void ParameterStore::set_constant(const std::string& name, const Tensor& value) {
  for (const auto& constant : constants_) {
    if (constant->name() != name) continue;
    Tensor& to = constant->tensor_;
    require<ShapeError>(value.shape() == to.shape(), name, ": expected shape ", to.shape(), ", got ", value.shape());
    visit_dtype(to.dtype(), [&]<class T>() { to.from_host(value.to_vector_as<T>().data()); });
    return;
  }
  throw ValueError(concat_text("parameters: no constant ", name));
}

void ParameterStore::allocate(Device device, DType dtype, bool bfloat16_copy, Gradients gradients) {
  require(!values_.defined(), "parameters: allocate() was called twice");
  std::int64_t size = 0;
  for (const auto& parameter : parameters_) {
    parameter->offset_ = size;
    const std::int64_t padded = (parameter->shape().numel() + alignment - 1) / alignment * alignment;
    require<MemoryError>(!__builtin_add_overflow(size, padded, &size), "parameters: more than 2^63 elements");
  }
  values_ = weight_arena(size, dtype, device);
  if (bfloat16_copy) bfloat16_ = weight_arena(size, DType::BFloat16, device);
  if (gradients == Gradients::Yes) {
    reduced_ = zeros(Shape{size + extra_sums}, dtype, device);
    gradients_ = reduced_.slice(0, size);
  }
  if (bfloat16_copy && gradients == Gradients::Yes && device.kind == DeviceKind::Cpu && !runtime_of(device.kind).multiplies_bfloat16(device.index)) {
    widened_ = weight_arena(size, DType::Float32, device);
    bfloat16_.keep_float32_copy(widened_);
  }
  for (const auto& parameter : parameters_) {
    parameter->tensor_ = arena_view(values_, parameter->offset_, parameter->shape());
    if (bfloat16_copy) parameter->bfloat16_ = arena_view(bfloat16_, parameter->offset_, parameter->shape());
    if (gradients == Gradients::No) continue;
    parameter->gradient_ = arena_view(gradients_, parameter->offset_, parameter->shape());
    parameter->tensor_.set_history(make_leaf(parameter->gradient_), 0);
    if (bfloat16_copy) parameter->bfloat16_.set_history(parameter->tensor_.node(), 0);
  }
  for (const auto& constant : constants_) constant->tensor_ = to_device(constant->tensor_, device);
  std::vector<std::int64_t> ranges;
  for (const auto& parameter : parameters_) {
    std::int64_t begin = parameter->offset_;
    for (const ParameterPart& part : parameter->parts()) {
      ranges.insert(ranges.end(), {begin, begin + part.shape.numel()});
      begin += part.shape.numel();
    }
  }
  segments_ = from_values<std::int64_t>(Shape{static_cast<std::int64_t>(ranges.size()) / 2, 2}, ranges, device);
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const auto& parameter : parameters_) {
    std::vector<float> values(static_cast<std::size_t>(parameter->shape().numel()));
    std::size_t begin = 0;
    for (const ParameterPart& part : parameter->parts()) {
      const std::int64_t size = part.shape.numel(), rows = part.shape.rank() == 0 ? 1 : part.shape[0];
      part.init.fill({seed, sites_.add(part.name), 0}, std::span(values).subspan(begin, static_cast<std::size_t>(size)), rows == 0 ? 0 : size / rows);
      begin += static_cast<std::size_t>(size);
    }
    convert(from_values<float>(parameter->shape(), values, values_.device()), parameter->tensor_);
  }
  values_changed();
}

void ParameterStore::values_changed() {
  if (bfloat16_.defined()) convert(values_, bfloat16_);
  values_and_copy_changed();
}

void ParameterStore::values_and_copy_changed() {
  ++version_;
  if (widened_.defined()) convert(bfloat16_, widened_);
}

std::int64_t ParameterStore::count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters_) count += parameter->shape().numel();
  return count;
}

void ParameterStore::zero_gradients() {
  require(gradients_.defined(), "parameters: there are no gradients, allocate() was called without them");
  fill_zero(gradients_);
}

std::vector<NamedTensor> ParameterStore::named(const std::function<Tensor(const Parameter&)>& view) const {
  std::vector<NamedTensor> all;
  for (const auto& parameter : parameters_) {
    const Tensor whole = view(*parameter).detach();
    if (parameter->parts().size() == 1) {
      all.push_back({parameter->name(), whole});
      continue;
    }
    std::int64_t row = 0;
    for (const ParameterPart& part : parameter->parts()) {
      all.push_back({part.name, whole.slice(row, row + part.shape[0])});
      row += part.shape[0];
    }
  }
  return all;
}

std::vector<NamedTensor> ParameterStore::named_values() const {
  std::vector<NamedTensor> all = named([](const Parameter& parameter) { return parameter.value(); });
  for (const auto& constant : constants_)
    if (!constant->name().empty()) all.push_back({constant->name(), as_stored(constant->tensor())});
  return all;
}

std::vector<NamedTensor> ParameterStore::named_gradients() const {
  require(gradients_.defined(), "parameters: there are no gradients, allocate() was called without them");
  return named([](const Parameter& parameter) { return parameter.gradient(); });
}

}  // namespace mblm
