#include "cpu/gemm.h"

// g++ 12 warns about the undefined lanes of its own AVX-512 intrinsics.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#ifdef MBLM_ONEDNN
#include <dnnl.h>

#include "cpu/one_thread.h"
#include "engine/error.h"
#endif

namespace mblm {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using View = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using MutableView = Eigen::Map<Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T, class A, class B>
void multiply(T alpha, const A& a, const B& b, T beta, MutableView<T>& c) {
  if (beta == 0) {
    c.noalias() = alpha * a * b;
    return;
  }
  if (beta != 1) c *= beta;
  c.noalias() += alpha * a * b;
}

template <class T>
void eigen_gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, T alpha, const T* a, std::int64_t lda, const T* b,
                std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  const View<T> va(a, transpose_a ? K : M, transpose_a ? M : K, Eigen::OuterStride<>(lda));
  const View<T> vb(b, transpose_b ? N : K, transpose_b ? K : N, Eigen::OuterStride<>(ldb));
  MutableView<T> vc(c, M, N, Eigen::OuterStride<>(ldc));
  if (transpose_a && transpose_b) multiply(alpha, va.transpose(), vb.transpose(), beta, vc);
  if (transpose_a && !transpose_b) multiply(alpha, va.transpose(), vb, beta, vc);
  if (!transpose_a && transpose_b) multiply(alpha, va, vb.transpose(), beta, vc);
  if (!transpose_a && !transpose_b) multiply(alpha, va, vb, beta, vc);
}

}  // namespace

template <>
void gemm<double>(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, double alpha, const double* a, std::int64_t lda,
                  const double* b, std::int64_t ldb, double beta, double* c, std::int64_t ldc) {
  eigen_gemm(transpose_a, transpose_b, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <>
void gemm<float>(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, float alpha, const float* a, std::int64_t lda,
                 const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
#ifdef MBLM_ONEDNN
  if (M > 0 && N > 0 && K > 0) {
    const dnnl_status_t status = on_one_thread(
        [&] { return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, alpha, a, lda, b, ldb, beta, c, ldc); });
    require(status == dnnl_success, "gemm: oneDNN failed with status ", static_cast<int>(status));
    return;
  }
#endif
  eigen_gemm(transpose_a, transpose_b, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
}

}  // namespace mblm
