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

// Whether weight decay applies to a parameter: to matrices, except the A_log of Mamba-1, whose values are exponents.
bool has_weight_decay(const Parameter& parameter);

class Adam {
 public:
  // Initializes the moments to zero. The parameters must be allocated and outlive this object.
  Adam(ParameterStore& parameters, const UpdateOptions& options);

  // Applies one step from the gradient arena, with the learning rate and step number of `scalars` (StepScalars), and writes the outcome
  // to `scalars`. If the gradient or loss is not finite, parameters and moments do not change. Does not wait for the device. The caller
  // reports the change to the parameters (values_and_copy_changed), also when a graph replays the step.
  void step(Tensor& scalars);

  const Tensor& first_moment() const { return first_moment_; }  // same layout as the arenas
  const Tensor& second_moment() const { return second_moment_; }

 private:
  ParameterStore& parameters_;
  const UpdateOptions options_;
  Tensor first_moment_, second_moment_;
  const Tensor decays_;  // adam_step's `decays`; undefined without weight decay
};

// The mean over the named parameters of their mean gradients: the column avg_grad of loss.csv. Waits for the device.
double mean_gradient(const ParameterStore& parameters);

}  // namespace mblm
