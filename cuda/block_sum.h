// Sums over the threads of a block, in a fixed order.
#pragma once

#include "cuda/kernel.h"

namespace mblm::cuda {

inline constexpr int largest_block_warps = 32;

// Shared memory of block_sum: one value per warp.
template <class T>
struct WarpSums {
  T of_warp[largest_block_warps];
};

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// The sum of x over the block, valid in thread 0. The block is one-dimensional and consists of whole warps, all of which call this.
// A second call with the same shared memory requires __syncthreads in between.
template <class T>
__device__ __forceinline__ T block_sum(T x, WarpSums<T>& shared) {
  const unsigned warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
  x = warp_sum(x);
  if (threadIdx.x % warp_size == 0) shared.of_warp[warp] = x;
  __syncthreads();
  T total{};
  if (threadIdx.x == 0)
    for (unsigned i = 0; i < warps; ++i) total += shared.of_warp[i];
  return total;
}

#endif

}  // namespace mblm::cuda
