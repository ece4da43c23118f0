// Matrix products, behind one function: cuBLASLt in the module (gemm_cublaslt.cpp), a checking stand-in in the tests
// (tests/cuda/gemm_stand_in.cpp).
#pragma once

#include <cstdint>

#include "engine/dtype.h"

namespace mblm::cuda {

// c = op(a) op(b) + beta c for `batch` row-major matrices on the compute stream; op transposes when its flag is set. op(a) is m x k,
// op(b) k x n, c m x n. Sums are float32; float32 products are true float32, not TF32.
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  DType input = DType::Float32;   // of a and b: float32 or bfloat16
  DType output = DType::Float32;  // of c: float32, or also bfloat16 for bfloat16 inputs
  std::int64_t lda = 0, ldb = 0, ldc = 0;                 // elements between rows, as stored
  std::int64_t batch = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between the matrices of a batch; 0: one matrix for all
  float beta = 0;                                         // 0: c is not read

  bool operator==(const Gemm&) const = default;
};

// a, b and c are device addresses. Throws DeviceError when the library refuses the product or is missing.
void gemm(const Gemm& product, const void* a, const void* b, void* c);

}  // namespace mblm::cuda
