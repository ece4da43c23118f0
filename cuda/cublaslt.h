// cuBLASLt, opened at run time, and the descriptors of a product. Nothing here needs a GPU.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <source_location>

#include "cuda/gemm.h"
#include "cuda/library.h"

namespace mblm::cuda {

struct CublasLt {
  Library library{"cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12"}};
  decltype(&cublasLtCreate) create = library.function("cublasLtCreate");
  decltype(&cublasLtMatmul) matmul = library.function("cublasLtMatmul");
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristics = library.function("cublasLtMatmulAlgoGetHeuristic");
  decltype(&cublasLtMatmulDescCreate) create_product = library.function("cublasLtMatmulDescCreate");
  decltype(&cublasLtMatmulDescDestroy) destroy_product = library.function("cublasLtMatmulDescDestroy");
  decltype(&cublasLtMatmulDescSetAttribute) set_product = library.function("cublasLtMatmulDescSetAttribute");
  decltype(&cublasLtMatmulDescGetAttribute) get_product = library.function("cublasLtMatmulDescGetAttribute");
  decltype(&cublasLtMatrixLayoutCreate) create_layout = library.function("cublasLtMatrixLayoutCreate");
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = library.function("cublasLtMatrixLayoutDestroy");
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout = library.function("cublasLtMatrixLayoutSetAttribute");
  decltype(&cublasLtMatrixLayoutGetAttribute) get_layout = library.function("cublasLtMatrixLayoutGetAttribute");
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = library.function("cublasLtMatmulPreferenceCreate");
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = library.function("cublasLtMatmulPreferenceDestroy");
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = library.function("cublasLtMatmulPreferenceSetAttribute");
  decltype(&cublasLtMatmulPreferenceGetAttribute) get_preference = library.function("cublasLtMatmulPreferenceGetAttribute");
  decltype(&cublasLtGetStatusString) status_text = library.function("cublasLtGetStatusString");
};
// Throws DeviceError if the library is missing.
const CublasLt& cublaslt();

// Throws DeviceError with the text of a status that is not success.
void check(cublasStatus_t status, const std::source_location& where = std::source_location::current());

template <auto CublasLt::*destroy>
struct Destroy {
  template <class T>
  void operator()(T* descriptor) const {
    (cublaslt().*destroy)(descriptor);
  }
};
using ProductDescriptor = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<&CublasLt::destroy_product>>;
using LayoutDescriptor = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<&CublasLt::destroy_layout>>;
using PreferenceDescriptor = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<&CublasLt::destroy_preference>>;

// 32 MiB is what NVIDIA recommends for Hopper, whose kernels split long sums over k.
inline constexpr std::size_t gemm_workspace_bytes = std::size_t{32} << 20;

// How cuBLASLt may add partial sums over k (cublasLtReductionScheme_t) for a result of this dtype.
std::uint32_t reduction_schemes(DType output);

// Bytes that the addresses are multiples of; more than 16 changes no algorithm.
struct GemmAlignment {
  std::uint32_t a = 16, b = 16, c = 16;
  auto operator<=>(const GemmAlignment&) const = default;
};
// The largest power of two up to 16 that divides the address.
std::uint32_t gemm_alignment(const void* address);

// cuBLASLt's matrices are column-major: a row-major matrix is its transposed one. So c^T = op(b)^T op(a)^T is computed: b is the left
// operand, a the right one, the flags stay, and the bias is added to every column.
struct GemmDescriptors {
  ProductDescriptor product;
  LayoutDescriptor left, right, result;
  PreferenceDescriptor preference;

  GemmDescriptors(const Gemm& gemm, const GemmAlignment& alignment);
};

}  // namespace mblm::cuda
