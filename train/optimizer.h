// Adam on the flat arenas of a model's parameters.
#pragma once

#include "engine/parameters.h"
#include "engine/tensor.h"
#include "ops/adam.h"

namespace mblm {

struct UpdateOptions {
  AdamOptions adam = {};
  GradientNormOptions gradient = {};
};

class Adam {
 public:
  // The moments start at zero. The parameters must be allocated, and live as long as this.
  Adam(ParameterStore& parameters, const UpdateOptions& options);

  // One step from the gradient arena, with the learning rate and the step of `scalars` (StepScalars), where it leaves the
  // outcome: a gradient or loss that is not finite changes neither parameters nor moments. Does not wait for the device.
  void step(Tensor& scalars);

  const Tensor& first_moment() const { return first_moment_; }  // like the arenas
  const Tensor& second_moment() const { return second_moment_; }

 private:
  ParameterStore& parameters_;
  const UpdateOptions options_;
  Tensor first_moment_, second_moment_;
};

// Mean over the parameters (as files name them) of each one's mean gradient: the column avg_grad of loss.csv. Waits for the device.
double mean_gradient(const ParameterStore& parameters);

}  // namespace mblm
