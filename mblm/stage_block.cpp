#include "mblm/stage_block.h"

#include <algorithm>
#include <cmath>

#include "ops/dropout.h"
#include "ops/linear.h"

namespace mblm {

Tensor dropout(const Tensor& x, double p, std::uint32_t site, const ForwardContext& context) {
  if (!context.training) return x;
  const std::int64_t first = context.first_sequence * x.shape().without_first().numel();
  return dropout(x, p, context.random(site), static_cast<std::uint64_t>(first));
}

std::int64_t State::longest() const { return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()); }

Tensor State::positions(Device device) const { return from_values<std::int64_t>(Shape{batch()}, lengths, device); }

void State::advance(std::int64_t tokens) {
  for (std::int64_t& length : lengths) length += tokens;
}

State State::repeated(std::int64_t rows) const {
  require<ShapeError>(batch() == 1, "state: expected one row to repeat, got ", batch());
  State all{{}, std::vector<std::int64_t>(static_cast<std::size_t>(rows), lengths.front())};
  for (const Tensor& one : tensors) {
    Tensor copies = empty(one.shape().with(0, rows), one.dtype(), one.device());
    for (std::int64_t row = 0; row < rows; ++row) {
      Tensor to = copies.slice(row, row + 1);
      copy_into(to, one);
    }
    all.tensors.push_back(std::move(copies));
  }
  return all;
}

std::unique_ptr<State> StageBlock::start(std::int64_t, std::int64_t) const { return nullptr; }

Parameter& Scope::add_merged(std::vector<ParameterPart> parts) const {
  for (ParameterPart& part : parts) part.name = full(part.name);
  return store_->add_merged(std::move(parts));
}

Tensor LinearParameters::operator()(const Tensor& x, std::optional<DType> y_dtype) const {
  return linear(x, weight->factor(), bias == nullptr ? Tensor{} : bias->tensor(), y_dtype);
}

LinearParameters add_linear(const Scope& scope, const std::string& name, std::int64_t in, std::int64_t out, bool bias) {
  const Init init = Init::uniform(1.0f / std::sqrt(static_cast<float>(in)));
  LinearParameters linear;
  linear.weight = &scope.add(name + ".weight", Shape{out, in}, init);
  if (bias) linear.bias = &scope.add(name + ".bias", Shape{out}, init);
  return linear;
}

}  // namespace mblm
