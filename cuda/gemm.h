// Matrix products behind one function: cuBLASLt in the module (gemm_cublaslt.cpp), a checking stand-in in the tests
// (tests/cuda/gemm_stand_in.cpp).
#pragma once

#include <compare>
#include <cstdint>

#include "engine/dtype.h"

namespace mblm::cuda {

// c = op(a) op(b) + bias + beta c for `batch` row-major matrices; op transposes when its flag is set. op(a) is m x k, op(b) k x n,
// c m x n; all are at least 1. Sums are float32 and are rounded once; float32 products are true float32, not TF32.
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  DType input = DType::Float32;   // of a and b: float32 or bfloat16
  DType output = DType::Float32;  // of c and the bias: float32, or also bfloat16 for bfloat16 inputs
  std::int64_t lda = 0, ldb = 0, ldc = 0;  // elements between rows, as stored
  std::int64_t batch = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between the matrices of a batch; 0: one matrix for all
  bool bias = false;                                      // n elements, added to every row
  float beta = 0;                                         // 0: c is not read; otherwise c is float32, because cuBLASLt would round twice

  auto operator<=>(const Gemm&) const = default;
};

// Starts the product on the compute stream; a, b, bias and c are device addresses, c overlaps no input, and the bias is aligned to 16
// bytes. Returns false, with nothing started, if the library cannot add this bias: the caller adds it. Throws DeviceError if the library
// is missing or refuses the product without a bias.
// The algorithm depends on the product and on whether the addresses are multiples of 16 bytes only: two runs give the same bits.
bool gemm(const Gemm& product, const void* a, const void* b, const void* bias, void* c);

}  // namespace mblm::cuda
