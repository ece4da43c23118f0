#include "train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "ops/adam.h"

namespace mblm {
namespace {

constexpr double clip_epsilon = 1e-6;  // of adam_step

// f(name, values) for each gradient under its name in files, on the host.
void for_each_gradient(const ParameterStore& parameters, const std::function<void(const std::string&, const std::vector<double>&)>& f) {
  for (const NamedTensor& gradient : parameters.named_gradients()) {
    std::vector<double> values;
    if (gradient.tensor.dtype() == DType::Float64) {
      values = gradient.tensor.to_vector<double>();
    } else {
      const std::vector<float> narrow = gradient.tensor.to_vector<float>();
      values.assign(narrow.begin(), narrow.end());
    }
    f(gradient.name, values);
  }
}

}  // namespace

Adam::Adam(ParameterStore& parameters, double clip)
    : parameters_(parameters),
      clip_(clip),
      first_moment_(zeros_like(parameters.values())),
      second_moment_(zeros_like(parameters.values())),
      norm_(zeros(Shape{1}, DType::Float64, parameters.values().device())),
      finite_(zeros(Shape{1}, DType::UInt8, parameters.values().device())) {}

bool Adam::step(double learning_rate, bool loss_is_finite) {
  global_norm(parameters_.gradients(), norm_, finite_);
  if (!loss_is_finite) finite_.from_host(std::array<std::uint8_t, 1>{0}.data());
  Tensor values = parameters_.values(), copy = parameters_.bfloat16_values();  // handles: the elements are the parameters'
  adam_step(values, parameters_.gradients(), first_moment_, second_moment_, copy, norm_, finite_,
            AdamOptions{.learning_rate = learning_rate, .clip = clip_, .step = steps_ + 1});
  const bool finite = finite_.item() != 0;
  if (!finite) return false;
  ++steps_;
  parameters_.values_and_copy_changed();
  return true;
}

double Adam::gradient_norm() const { return norm_.item(); }

double Adam::clip_factor() const { return clip_ > 0 ? std::min(1.0, clip_ / (gradient_norm() + clip_epsilon)) : 1.0; }

double mean_gradient(const ParameterStore& parameters) {
  double sum_of_means = 0;
  std::int64_t count = 0;
  for_each_gradient(parameters, [&](const std::string&, const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    sum_of_means += sum / static_cast<double>(values.size());
    ++count;
  });
  return sum_of_means / static_cast<double>(count);
}

std::string first_nonfinite_gradient(const ParameterStore& parameters) {
  std::string found;
  for_each_gradient(parameters, [&](const std::string& name, const std::vector<double>& values) {
    if (!std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); })) found = name;  // declared as forward goes
  });
  return found;
}

}  // namespace mblm
