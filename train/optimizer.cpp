#include "train/optimizer.h"

#include <algorithm>
#include <vector>

namespace mblm {
namespace {

static_assert(ParameterStore::alignment % decay_group == 0, "a group belongs to one parameter");

Tensor make_decays(const ParameterStore& parameters) {
  std::vector<std::uint8_t> groups(static_cast<std::size_t>((parameters.values().numel() + decay_group - 1) / decay_group));
  for (const auto& parameter : parameters.parameters()) {
    if (!has_weight_decay(*parameter)) continue;
    const auto first = groups.begin() + parameter->offset() / decay_group;
    std::fill_n(first, (parameter->shape().numel() + decay_group - 1) / decay_group, std::uint8_t{1});
  }
  return from_values<std::uint8_t>(Shape{static_cast<std::int64_t>(groups.size())}, groups, parameters.values().device());
}

}  // namespace

bool has_weight_decay(const Parameter& parameter) { return parameter.shape().rank() == 2 && !parameter.name().ends_with("A_log"); }

Adam::Adam(ParameterStore& parameters, const UpdateOptions& options)
    : parameters_(parameters),
      options_(options),
      first_moment_(zeros_like(parameters.values())),
      second_moment_(zeros_like(parameters.values())),
      decays_(options.adam.weight_decay == 0 ? Tensor() : make_decays(parameters)) {}

void Adam::step(Tensor& scalars) {
  gradient_norm(parameters_.gradients(), parameters_.segments(), options_.gradient, scalars);
  Tensor values = parameters_.values(), copy = parameters_.bfloat16_values();  // handles that share the parameters' elements
  adam_step(values, parameters_.gradients(), first_moment_, second_moment_, copy, decays_, options_.adam, scalars);
}

double mean_gradient(const ParameterStore& parameters) {
  Tensor means = empty(Shape{parameters.segments().size(0)}, DType::Float64, parameters.gradients().device());
  segment_means(parameters.gradients(), parameters.segments(), means);
  double sum = 0;
  for (const double mean : means.to_vector<double>()) sum += mean;
  return sum / static_cast<double>(means.numel());
}

}  // namespace mblm
