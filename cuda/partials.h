// Sums of partial sums, in a fixed order: the second pass of column sums (gradients of weights and biases).
#pragma once

#include "cuda/kernel.h"

namespace mblm::cuda {

// out[column] = beta out[column] + sum over parts of partials[part, column], added in the order of the parts.
// partials (P, D) float32; out has D elements, float32 or bfloat16. One launch; 4 P D bytes read.
void add_partials(const Tensor& partials, Tensor& out, float beta);

}  // namespace mblm::cuda
