// What the two sides of the matrix product share.
#pragma once

#include "ops/matmul.h"

namespace mblm {

struct MatmulSizes {
  std::int64_t batch, M, N, K;
  std::int64_t a_columns, b_columns;  // of the matrices as they lie in memory
  std::int64_t a_step, b_step;        // between matrices of the batch; 0: one for all
};

inline MatmulSizes sizes_of(const Tensor& a, const Tensor& b, const Tensor& c, const MatmulFlags& flags) {
  MatmulSizes s{};
  s.batch = c.rank() > 2 ? c.size(0) : 1;
  s.M = c.size(-2);
  s.N = c.size(-1);
  s.K = flags.transpose_a ? a.size(-2) : a.size(-1);
  s.a_columns = a.size(-1);
  s.b_columns = b.size(-1);
  s.a_step = a.rank() > 2 ? s.M * s.K : 0;
  s.b_step = b.rank() > 2 ? s.K * s.N : 0;
  return s;
}

// The next multiple of `unit`, at least one.
inline std::int64_t round_up(std::int64_t n, std::int64_t unit) { return std::max(unit, (n + unit - 1) / unit * unit); }

// matmul_kernel for bfloat16 a and b, with sums in float32; bias and c are float32 or bfloat16, each for itself.
void multiply_bfloat16(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags);
// The same by way of float32 copies: what it does where there is no bfloat16 product for the processor.
void multiply_widened(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags);

}  // namespace mblm
