// The product of two tensors as gemm() takes it.
#pragma once

#include "cuda/gemm.h"
#include "ops/matmul.h"

namespace mblm::cuda {

// The arguments are those of matmul_forward. Where b is one matrix for the whole batch and a is not transposed, the batch becomes rows of one
// product. Throws DTypeError for a combination of dtypes that matmul_forward does not have.
inline Gemm gemm_of(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& c, const MatmulFlags& flags) {
  require<DTypeError>(b.dtype() == a.dtype() && (a.dtype() == DType::BFloat16 || c.dtype() == a.dtype()), "matmul_forward: no product of ", a.dtype(),
                      " and ", b.dtype(), " to ", c.dtype());
  Gemm product{.m = c.size(-2), .n = c.size(-1), .k = a.size(flags.transpose_a ? -2 : -1), .transpose_a = flags.transpose_a,
               .transpose_b = flags.transpose_b, .input = a.dtype(), .output = c.dtype(), .lda = a.size(-1), .ldb = b.size(-1), .ldc = c.size(-1),
               .bias = bias.defined(), .beta = flags.beta};
  if (c.rank() < 3) return product;
  if (b.rank() == 2 && a.rank() == 3 && !flags.transpose_a) {
    product.m *= c.size(0);
    return product;
  }
  product.batch = c.size(0);
  product.stride_a = a.rank() == 3 ? a.size(1) * a.size(2) : 0;
  product.stride_b = b.rank() == 3 ? b.size(1) * b.size(2) : 0;
  product.stride_c = c.size(1) * c.size(2);
  return product;
}

}  // namespace mblm::cuda
