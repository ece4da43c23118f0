#include "train/optimizer.h"

#include <vector>

namespace mblm {

Adam::Adam(ParameterStore& parameters, const UpdateOptions& options)
    : parameters_(parameters), options_(options), first_moment_(zeros_like(parameters.values())), second_moment_(zeros_like(parameters.values())) {}

void Adam::step(Tensor& scalars) {
  gradient_norm(parameters_.gradients(), parameters_.segments(), options_.gradient, scalars);
  Tensor values = parameters_.values(), copy = parameters_.bfloat16_values();  // handles that share the parameters' elements
  adam_step(values, parameters_.gradients(), first_moment_, second_moment_, copy, options_.adam, scalars);
}

double mean_gradient(const ParameterStore& parameters) {
  Tensor means = empty(Shape{parameters.segments().size(0)}, DType::Float64, parameters.gradients().device());
  segment_means(parameters.gradients(), parameters.segments(), means);
  double sum = 0;
  for (const double mean : means.to_vector<double>()) sum += mean;
  return sum / static_cast<double>(means.numel());
}

}  // namespace mblm
