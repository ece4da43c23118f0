// Adam on the flat arenas of a model's parameters.
#pragma once

#include <cstdint>

#include "engine/parameters.h"
#include "engine/tensor.h"

namespace mblm {

// Adam with betas 0.9 and 0.95, eps 1e-8, no weight decay; gradients are scaled by min(1, clip / (norm + 1e-6)) first.
class Adam {
 public:
  // The moments start at zero. `clip` 0: never. The parameters must be allocated, and live as long as this.
  Adam(ParameterStore& parameters, double clip);

  // One step from the gradient arena. False when the gradient was not finite, or `loss_is_finite` is false: then nothing has
  // changed, and the step does not count. Waits for the device.
  bool step(double learning_rate, bool loss_is_finite = true);
  // Global L2 norm of the gradient of the last step, before clipping, and what the gradient was multiplied with.
  // Reading waits for the device.
  double gradient_norm() const;
  double clip_factor() const;

  // All that a step needs to know of the ones before it.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  Tensor& first_moment() { return first_moment_; }    // like the arenas
  Tensor& second_moment() { return second_moment_; }
  Tensor& norm() { return norm_; }

 private:
  ParameterStore& parameters_;
  const double clip_;
  std::int64_t steps_ = 0;
  Tensor first_moment_, second_moment_;
  Tensor norm_, finite_;  // of the last gradient, on the device
};

// Mean over the parameters (as files name them) of each one's mean gradient: the column avg_grad of loss.csv.
double mean_gradient(const ParameterStore& parameters);
// Of the parameters, as files name them, whose gradient has an element that is not finite: the one nearest to the loss, where
// backward met it first. Empty when there is none.
std::string first_nonfinite_gradient(const ParameterStore& parameters);

}  // namespace mblm
