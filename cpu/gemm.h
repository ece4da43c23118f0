// The matrix product that kernels use inside their tiles.
#pragma once

#include <cstdint>

#include "engine/dtype.h"

namespace mblm {

// c = alpha op(a) op(b) + beta c, where op transposes when its flag is set; all row-major with row strides lda, ldb, ldc.
// op(a) is M x K, op(b) K x N, c M x N. Runs in the calling thread alone, so its bits do not depend on the number of
// threads. With beta = 0 c is written, never read; K = 0 gives beta c. Defined for float and double.
template <class T>
void gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, T alpha, const T* a, std::int64_t lda, const T* b,
          std::int64_t ldb, T beta, T* c, std::int64_t ldc);

// c = op(a) op(b) for bfloat16 a and b, with sums in float32; added to c where `add`; otherwise as above.
void gemm_bfloat16(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc);
// The same by way of float32 copies of a and b: what it does where there is no bfloat16 product for the processor.
void widening_gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc);

}  // namespace mblm
