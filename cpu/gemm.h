// The matrix product that kernels use inside their tiles.
#pragma once

#include <cstdint>

#include "engine/dtype.h"

namespace mblm {

// c = alpha op(a) op(b) + beta c, where op transposes when its flag is set. All matrices are row-major, with row strides lda, ldb,
// ldc. op(a) is M x K, op(b) is K x N, c is M x N. Runs in the calling thread only, so its bits do not depend on the number of
// threads. beta = 0 does not read c; K = 0 gives beta c. Defined for float and double.
template <class T>
void gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, T alpha, const T* a, std::int64_t lda, const T* b,
          std::int64_t ldb, T beta, T* c, std::int64_t ldc);

// Whether this processor has instructions for bfloat16 products (AVX-512 BF16 or AMX) and oneDNN uses them. Otherwise the products
// widen bfloat16 matrices to float32 and are not faster than float32 products.
bool multiplies_bfloat16();

// c = op(a) op(b), or c += op(a) op(b) if `add`, for bfloat16 a and b with sums in float32. Otherwise as above.
void gemm_bfloat16(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc);
// Fallback without bfloat16 instructions: the same product of float32 copies of a and b.
void widening_gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc);

}  // namespace mblm
