#pragma once
#include "ops/step_scalars.h"

namespace mblm {

struct GradientNormOptions {
  double clip = 0;             // bound of the global norm; 0: none
  bool stop_after_nonfinite = false;  // after a group that was not finite no later update applies
};

// Prepares the update from a gradient arena x (N). Writes the global L2 norm (sums in float64), the clip factor
// min(1, clip / (norm + 1e-6)), and whether the update applies: when loss_sum and all of x are finite. Otherwise records the
// step, its loss and the last of the `segments` (S, 2) int64, half-open ranges of x, with an element that is not finite:
// backward reaches the parameter declared last first.
extern Kernel<void(const Tensor& x, const Tensor& segments, const GradientNormOptions& options, Tensor& scalars)> gradient_norm;

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
};

// One step of Adam (Kingma and Ba, 2015) on flat arenas (N), with gradients multiplied by the clip factor, the learning rate of
// `scalars` and Adam's step `updates` + 1. Writes the bfloat16 copy when it is defined. Where the update does not apply
// (gradient_norm), values and moments stay as they are. Then closes the group: counts the step and the update, moves loss_sum and
// count to group_loss and group_count.
extern Kernel<void(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy,
                   const AdamOptions& options, Tensor& scalars)>
    adam_step;

// out[s] = mean of x[begin_s .. end_s), sums in float64. x (N) floating, segments (S, 2) int64, out (S) float64; 0 for an empty one.
extern Kernel<void(const Tensor& x, const Tensor& segments, Tensor& out)> segment_means;

}  // namespace mblm
