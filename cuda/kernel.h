// Shared by the CUDA kernels: element types, vectorized access, sums over a warp, grids, registration.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "cuda/launch.h"
#include "engine/kernel.h"
#include "engine/kernel_data.h"

namespace mblm::cuda {

inline constexpr unsigned all_lanes = 0xffffffffu;
inline constexpr int warp_size = 32;

// ---- host: dispatch, grids, registration

// Runs f.operator()<T>() for float or bfloat16; throws DTypeError for another dtype.
template <class F>
void for_element_type(const char* kernel, DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float32: f.template operator()<float>(); return;
    case DType::BFloat16: f.template operator()<bfloat16>(); return;
    default: throw DTypeError(concat_text(kernel, ": expected float32 or bfloat16 on a GPU, got ", dtype));
  }
}

// Runs f.operator()<A, B>() for float32 and bfloat16 in any combination; throws DTypeError otherwise.
template <class F>
void for_element_types(const char* kernel, DType a, DType b, F&& f) {
  for_element_type(kernel, a, [&]<class A>() { for_element_type(kernel, b, [&]<class B>() { f.template operator()<A, B>(); }); });
}

inline constexpr std::initializer_list<DType> element_types = {DType::Float32, DType::BFloat16};
inline constexpr std::initializer_list<DType> all_dtypes = {DType::Float32, DType::BFloat16, DType::Float64, DType::Int32, DType::Int64, DType::UInt8};

// Fills a slot for CUDA devices: `const bool added = add_kernel(gelu_forward, forward) && ...;`
template <class Slot>
bool add_kernel(Slot& slot, typename Slot::Function function, std::initializer_list<DType> dtypes = element_types) {
  return slot.add(DeviceKind::Cuda, dtypes, function);
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline constexpr std::int64_t largest_grid = 0x7fffffff;  // blocks along x
// Number of blocks of `per_block` elements. Throws ShapeError if a grid cannot have that many.
inline unsigned blocks_for(std::int64_t elements, std::int64_t per_block) {
  const std::int64_t blocks = divide_up(elements, per_block);
  require<ShapeError>(blocks <= largest_grid, "cuda: expected at most ", largest_grid, " blocks, got ", blocks);
  return static_cast<unsigned>(blocks);
}

// True if elements at `p` can be accessed `bytes` at a time.
inline bool is_aligned(const void* p, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

// ---- device code

// N elements that are read or written by one instruction (N sizeof(T) <= 16 bytes).
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bfloat16 x) { return static_cast<float>(x); }
// Rounds to nearest even.
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bfloat16>) {
#ifdef __CUDACC__
    const __nv_bfloat16 rounded = __float2bfloat16_rn(x);  // one instruction
    bfloat16 y;
    memcpy(&y, &rounded, sizeof y);
    return y;
#else
    return bfloat16(x);
#endif
  } else {
    return x;
  }
}

// The N elements at p, which is aligned to N sizeof(T) bytes, as float, and back.
template <int N, class T>
__device__ __forceinline__ void read_pack(float (&x)[N], const T* p) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(p);
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = to_float(pack.v[i]);
}
template <int N, class T>
__device__ __forceinline__ void write_pack(T* p, const float (&x)[N]) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, bfloat16> && N % 2 == 0) {
    Pack<std::uint32_t, N / 2> words;  // the compiler may store a pack of bfloat16 element by element
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(x[i], x[i + 1]);  // one instruction rounds two numbers
      memcpy(&words.v[i / 2], &two, sizeof two);
    }
    *reinterpret_cast<Pack<std::uint32_t, N / 2>*>(p) = words;
    return;
  }
#endif
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.v[i] = from_float<T>(x[i]);
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// The sum or maximum over the 32 lanes of the warp, in every lane; the order of additions is fixed.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int bits = warp_size / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(all_lanes, x, bits);
  return x;
}
template <class T>
__device__ __forceinline__ T warp_max(T x) {
#pragma unroll
  for (int bits = warp_size / 2; bits > 0; bits /= 2) {
    const T other = __shfl_xor_sync(all_lanes, x, bits);
    x = other > x ? other : x;
  }
  return x;
}

#endif

}  // namespace mblm::cuda
