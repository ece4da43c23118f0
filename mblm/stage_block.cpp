#include "mblm/stage_block.h"

#include <cmath>

#include "ops/dropout.h"
#include "ops/linear.h"

namespace mblm {

Tensor dropout(const Tensor& x, double p, std::uint32_t site, const ForwardContext& context) {
  if (!context.training) return x;
  const std::int64_t first = context.first_sequence * x.shape().without_first().numel();
  return dropout(x, p, context.random(site), static_cast<std::uint64_t>(first));
}

std::unique_ptr<State> StageBlock::start(std::int64_t, std::int64_t) const { return nullptr; }

Parameter& Scope::add_merged(std::vector<ParameterPart> parts) const {
  for (ParameterPart& part : parts) part.name = full(part.name);
  return store_->add_merged(std::move(parts));
}

Tensor LinearParameters::operator()(const Tensor& x) const { return linear(x, weight->factor(), bias == nullptr ? Tensor{} : bias->tensor()); }

LinearParameters add_linear(const Scope& scope, const std::string& name, std::int64_t in, std::int64_t out, bool bias) {
  const Init init = Init::uniform(1.0f / std::sqrt(static_cast<float>(in)));
  LinearParameters linear;
  linear.weight = &scope.add(name + ".weight", Shape{out, in}, init);
  if (bias) linear.bias = &scope.add(name + ".bias", Shape{out}, init);
  return linear;
}

}  // namespace mblm
