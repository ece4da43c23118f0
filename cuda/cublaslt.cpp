#include "cuda/cublaslt.h"

#include "engine/error.h"

namespace mblm::cuda {
namespace {

cudaDataType data_type(DType dtype) { return dtype == DType::BFloat16 ? CUDA_R_16BF : CUDA_R_32F; }

template <class T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, T value) {
  check(cublaslt().set_product(product, attribute, &value, sizeof value));
}
template <class T>
void set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
  check(cublaslt().set_layout(layout, attribute, &value, sizeof value));
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check(cublaslt().set_preference(preference, attribute, &value, sizeof value));
}

// A row-major matrix of rows x columns, as the column-major matrix of columns x rows that it is.
LayoutDescriptor layout_of(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t row_step, std::int64_t batch, std::int64_t stride) {
  cublasLtMatrixLayout_t created = nullptr;
  check(cublaslt().create_layout(&created, data_type(dtype), static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows), row_step));
  LayoutDescriptor layout(created);
  set(created, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
  set(created, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  return layout;
}

ProductDescriptor product_of(const Gemm& gemm) {
  cublasLtMatmulDesc_t created = nullptr;
  check(cublaslt().create_product(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F));  // not 32F_FAST_TF32
  ProductDescriptor product(created);
  set(created, CUBLASLT_MATMUL_DESC_TRANSA, gemm.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(created, CUBLASLT_MATMUL_DESC_TRANSB, gemm.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (gemm.bias) {
    set(created, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(created, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(data_type(gemm.output)));
  }
  return product;
}

PreferenceDescriptor preference_of(const Gemm& gemm, const GemmAlignment& alignment) {
  cublasLtMatmulPreference_t created = nullptr;
  check(cublaslt().create_preference(&created));
  PreferenceDescriptor preference(created);
  set(created, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, gemm_workspace_bytes);
  // Partial sums over k stay float32 and are added in a fixed order: neither in c's dtype, nor in c as they are finished. For a bfloat16 c
  // there are none: a kernel of cuBLASLt 13.0 that splits k (nvjet, with a bias) rounded exact sums wrongly on an H200.
  set(created, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction_schemes(gemm.output));
  set(created, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment.b);
  set(created, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment.a);
  set(created, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment.c);
  set(created, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment.c);
  return preference;
}

}  // namespace

std::uint32_t reduction_schemes(DType output) {
  return output == DType::BFloat16 ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

const CublasLt& cublaslt() {
  static const CublasLt* const only = new CublasLt;  // never destroyed; a failed construction is tried again at the next product
  return *only;
}

void check(cublasStatus_t status, const std::source_location&) {
  require<DeviceError>(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", cublaslt().status_text(status));
}

std::uint32_t gemm_alignment(const void* address) {
  std::uint32_t bytes = 16;
  while (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) bytes /= 2;
  return bytes;
}

GemmDescriptors::GemmDescriptors(const Gemm& gemm, const GemmAlignment& alignment)
    : product(product_of(gemm)),
      left(layout_of(gemm.input, gemm.transpose_b ? gemm.n : gemm.k, gemm.transpose_b ? gemm.k : gemm.n, gemm.ldb, gemm.batch, gemm.stride_b)),
      right(layout_of(gemm.input, gemm.transpose_a ? gemm.k : gemm.m, gemm.transpose_a ? gemm.m : gemm.k, gemm.lda, gemm.batch, gemm.stride_a)),
      result(layout_of(gemm.output, gemm.m, gemm.n, gemm.ldc, gemm.batch, gemm.stride_c)),
      preference(preference_of(gemm, alignment)) {}

}  // namespace mblm::cuda
