#pragma once
#include "ops/step_scalars.h"

namespace mblm {

struct GradientNormOptions {
  double clip = 0;                    // bound of the global norm; 0: no clipping
  bool stop_after_nonfinite = false;  // after a group with a non-finite loss or gradient, apply no further update
};

// gradient_norm = sqrt(sum x^2), clip_factor = min(1, clip / (gradient_norm + 1e-6)): prepares the update from a gradient arena.
// x (N) float32 or float64, sums in float64; segments (S, 2) int64, half-open ranges of x; results go to `scalars` (StepScalars).
// Sets `applies` to 1 when loss_sum and all of x are finite, else to 0. With stop_after_nonfinite, `applies` stays 0 after the first
// non-finite group. Records step and loss of a non-finite group (with stop_after_nonfinite: of the first one only), and the last
// segment with a non-finite element, because backward reaches the parameter declared last first.
extern Kernel<void(const Tensor& x, const Tensor& segments, const GradientNormOptions& options, Tensor& scalars)> gradient_norm;

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0;
};

// Elements per entry of adam_step's `decays`.
inline constexpr std::int64_t decay_group = 64;

// One step of AdamW: g = clip_factor gradient; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// value = (1 - learning_rate weight_decay) value - learning_rate (m / (1 - beta1^s)) / (sqrt(v / (1 - beta2^s)) + eps), with
// s = updates + 1. Kingma and Ba, 2015; Loshchilov and Hutter, 2019.
// values, gradients and moments: flat arenas (N) of one dtype, float32 or float64; bfloat16_copy (N) bfloat16 or undefined.
// decays (ceil(N / decay_group)) uint8: 1 for each group of elements that weight decay applies to, else 0; undefined: no element.
// clip_factor, learning_rate and updates come from `scalars`. Writes the rounded values to bfloat16_copy when it is defined.
// Values and moments do not change when `applies` is 0 (gradient_norm). In both cases the step then closes the group: it counts
// the step and the applied update, and moves loss_sum and count to group_loss and group_count.
extern Kernel<void(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy,
                   const Tensor& decays, const AdamOptions& options, Tensor& scalars)>
    adam_step;

// out[s] = mean of x[begin_s .. end_s), 0 for an empty segment; sums in float64.
// x (N) float32 or float64; segments (S, 2) int64, half-open ranges of x; out (S) float64.
extern Kernel<void(const Tensor& x, const Tensor& segments, Tensor& out)> segment_means;

}  // namespace mblm
