#include "cpu/gemm.h"
#include "engine/kernel_data.h"
#ifdef MBLM_ONEDNN
#include <cstdlib>
#include <dnnl.hpp>

#include "cpu/compiled_cache.h"
#include "cpu/one_thread.h"
#include "engine/error.h"
#endif

namespace mblm {

namespace {

// The stored matrix (rows, columns) in float32 without gaps between rows. Exact.
Tensor widened(const bfloat16* x, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  Tensor wide = empty(Shape{rows, columns}, DType::Float32);
  float* to = data<float>(wide);
  for (std::int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < columns; ++j) to[i * columns + j] = static_cast<float>(x[i * stride + j]);
  }
  return wide;
}

}  // namespace

void widening_gemm(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc) {
  const std::int64_t a_columns = transpose_a ? M : K, b_columns = transpose_b ? K : N;
  const Tensor wide_a = widened(a, transpose_a ? K : M, a_columns, lda), wide_b = widened(b, transpose_b ? N : K, b_columns, ldb);
  gemm<float>(transpose_a, transpose_b, M, N, K, 1.0f, data<float>(wide_a), a_columns, data<float>(wide_b), b_columns, add ? 1.0f : 0.0f, c, ldc);
}

#ifdef MBLM_ONEDNN
namespace {

using dnnl::memory;

struct Problem {
  bool transpose_a, transpose_b, add;
  std::int64_t M, N, K, lda, ldb, ldc;
  auto operator<=>(const Problem&) const = default;
  std::size_t hash() const {
    std::size_t hash = static_cast<std::size_t>(transpose_a) | static_cast<std::size_t>(transpose_b) << 1 | static_cast<std::size_t>(add) << 2;
    for (const std::int64_t size : {M, N, K, lda, ldb, ldc}) hash = (hash ^ static_cast<std::size_t>(size)) * 0x9E3779B97F4A7C15u;
    return hash >> 32;
  }
};

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// A oneDNN that runs on SYCL (PyPI's) has no CPU engine where the OpenCL driver of the CPU is missing.
bool has_cpu_engine() {
  static const bool has = [] {
#if DNNL_VERSION_MAJOR >= 3
    // Version 3 prints errors, unless its environment variables say something else; ours become exceptions or fallbacks.
    if (std::getenv("ONEDNN_VERBOSE") == nullptr && std::getenv("DNNL_VERBOSE") == nullptr) dnnl_set_verbose(0);
#endif
    try {
      return static_cast<bool>(cpu_engine());
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return has;
}

memory::desc matrix(std::int64_t rows, std::int64_t columns, memory::data_type type, bool transposed, std::int64_t stride) {
  return {{rows, columns}, type, transposed ? memory::dims{1, stride} : memory::dims{stride, 1}};
}

dnnl::matmul::primitive_desc describe(const Problem& p) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the default is shared by all threads that run the primitive
  if (p.add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const auto type = memory::data_type::bf16;
  const memory::desc a = matrix(p.M, p.K, type, p.transpose_a, p.lda), b = matrix(p.K, p.N, type, p.transpose_b, p.ldb),
                     c = matrix(p.M, p.N, memory::data_type::f32, false, p.ldc);
#if DNNL_VERSION_MAJOR * 100 + DNNL_VERSION_MINOR >= 304
  attributes.set_deterministic(true);  // excludes implementations whose order of sums may change from run to run
#endif
#if DNNL_VERSION_MAJOR >= 3
  return {cpu_engine(), a, b, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, c), attributes, cpu_engine()};
#endif
}

struct Compiled {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;  // empty if oneDNN has no such product for this processor (below AVX-512) or cannot run at all
};

Compiled compile(const Problem& problem) {
  if (!has_cpu_engine()) return {};
  try {
    const dnnl::matmul::primitive_desc description = on_one_thread([&] { return describe(problem); });
    return {description, dnnl::matmul(description)};
  } catch (const dnnl::error& error) {
    require(error.status == dnnl_unimplemented, "gemm_bfloat16: oneDNN failed with status ", static_cast<int>(error.status));
    return {};
  }
}

// Creating a primitive compiles code, so primitives are kept. A training step has some dozens of problems; generation with growing
// lengths has any number, so the cache is bounded.
const Compiled& compiled(const Problem& problem) {
  static CompiledCache<Problem, Compiled> all(256);
  static thread_local RecentValues<Problem, Compiled> recent;
  return recent.get(all, problem, compile);
}

}  // namespace

bool multiplies_bfloat16() {
  const auto instructions = static_cast<unsigned>(dnnl::get_effective_cpu_isa()), needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return has_cpu_engine() && (instructions & needed) == needed;  // the sets are masks that contain the smaller sets
}

void gemm_bfloat16(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc) {
  if (M == 0 || N == 0) return;
  if (K == 0) return widening_gemm(transpose_a, transpose_b, M, N, K, a, lda, b, ldb, add, c, ldc);
  const Compiled& product = compiled({transpose_a, transpose_b, add, M, N, K, lda, ldb, ldc});
  if (!product.primitive) return widening_gemm(transpose_a, transpose_b, M, N, K, a, lda, b, ldb, add, c, ldc);
  const auto argument = [](const memory::desc& description, const void* data) { return memory(description, cpu_engine(), const_cast<void*>(data)); };
  const Tensor scratch = empty(Shape{static_cast<std::int64_t>(product.description.scratchpad_desc().get_size())}, DType::UInt8);
  on_one_thread([&] {
    dnnl::stream stream(cpu_engine());
    product.primitive.execute(stream, {{DNNL_ARG_SRC, argument(product.description.src_desc(), a)},
                                       {DNNL_ARG_WEIGHTS, argument(product.description.weights_desc(), b)},
                                       {DNNL_ARG_DST, argument(product.description.dst_desc(), c)},
                                       {DNNL_ARG_SCRATCHPAD, argument(product.description.scratchpad_desc(), raw(scratch))}});
    stream.wait();
  });
}

#else

bool multiplies_bfloat16() { return false; }

void gemm_bfloat16(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const bfloat16* a, std::int64_t lda,
                   const bfloat16* b, std::int64_t ldb, bool add, float* c, std::int64_t ldc) {
  widening_gemm(transpose_a, transpose_b, M, N, K, a, lda, b, ldb, add, c, ldc);
}

#endif

}  // namespace mblm
