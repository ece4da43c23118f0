#pragma once
#include "engine/kernel.h"

namespace mblm {

struct AdamOptions {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double clip = 0;         // by the global norm; 0: never
  std::int64_t step = 1;   // counts from 1
};

// Square root of the sum of squares of x (N), into `norm` (1) float64, and whether every element is finite, into
// `finite` (1) uint8. Sums are float64.
extern Kernel<void(const Tensor& x, Tensor& norm, Tensor& finite)> global_norm;

// One step of Adam (Kingma and Ba, 2015) on flat arenas (N): gradients are scaled by min(1, clip / (norm + 1e-6)) first.
// Writes the bfloat16 copy when it is defined. When `finite` is zero nothing is changed.
extern Kernel<void(Tensor& values, const Tensor& gradients, Tensor& first_moment, Tensor& second_moment, Tensor& bfloat16_copy, const Tensor& norm,
                   const Tensor& finite, const AdamOptions& options)>
    adam_step;

}  // namespace mblm
