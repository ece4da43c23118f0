#include "cuda/matmul.h"

#include <utility>

#include "cuda/map.h"
#include "engine/elementwise.h"

namespace mblm::cuda {
namespace {

// c = sum + bias + beta c, for what cuBLASLt cannot do: a product without terms (k = 0), a bias that it refuses, and a sum with a bfloat16 c.
template <class B>
struct Finish {
  const B* bias;  // null: none
  std::int64_t width;
  float beta;
  __device__ float operator()(std::int64_t i, float sum) const { return bias == nullptr ? sum : sum + to_float(bias[i % width]); }
  __device__ float operator()(std::int64_t i, float sum, float c) const { return (*this)(i, sum) + beta * c; }
};

void finish(const Tensor& sums, const Tensor& bias, Tensor& c, float beta) {
  for_element_types("matmul_forward", c.dtype(), bias.defined() ? bias.dtype() : c.dtype(), [&]<class C, class B>() {
    const Finish<B> f{bias.defined() ? data<B>(bias) : nullptr, c.size(-1), beta};
    if (beta == 0)
      map(f, c.numel(), data<C>(c), data<float>(sums));  // c may hold anything
    else
      map(f, c.numel(), data<C>(c), data<float>(sums), data<C>(std::as_const(c)));
  });
}

// The epilogue of cuBLASLt takes a bias in the dtype of c only: for a bfloat16 c, the bias is rounded as the weight is. Adding a
// float32 bias in another kernel would need the sums in float32. A bias that is not aligned to 16 bytes is copied too.
Tensor bias_in(DType dtype, const Tensor& bias) {
  if (!bias.defined() || (bias.dtype() == dtype && is_aligned(raw(bias), bytes_per_access))) return bias;
  Tensor converted = empty(bias.shape(), dtype, bias.device());
  if (bias.dtype() == dtype)
    copy_into(converted, bias);
  else
    convert(bias, converted);
  return converted;
}

void forward(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  Gemm product = gemm_of(a, b, bias, c, flags);
  if (c.numel() == 0) return;
  // cuBLASLt rounds twice where it adds to a bfloat16 c: seen on an H200.
  const bool rounds_once = c.dtype() != DType::BFloat16 || flags.beta == 0;
  if (product.k > 0 && rounds_once) {
    const Tensor added_bias = bias_in(c.dtype(), bias);
    if (gemm(product, raw(a), raw(b), raw(added_bias), raw(c))) return;
  }
  Tensor sums = empty(c.shape(), DType::Float32, c.device());
  product.output = DType::Float32;
  product.bias = false;
  product.beta = 0;
  if (product.k > 0)
    gemm(product, raw(a), raw(b), nullptr, raw(sums));
  else
    fill_zero(sums);
  finish(sums, bias, c, flags.beta);
}

const bool added = add_kernel(matmul_forward, forward);

}  // namespace
}  // namespace mblm::cuda
