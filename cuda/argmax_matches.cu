#include "ops/argmax_matches.h"

#include "cuda/kernel.h"

namespace mblm::cuda {
namespace {

constexpr int row_warps = 8, row_threads = row_warps * warp_size;
constexpr int pack = 4;  // float32 logits of one access

// A warp compares the logits of one row with the logit of the target, in packs of N logits per lane (N = 1 for rows that are not
// aligned). Reads 4 V + 8 bytes and writes 1 byte per row. Memory bound. A comparison with NaN is false, also for the target itself.
template <int N>
__global__ void __launch_bounds__(row_threads)
    find_matches(const float* logits, const std::int64_t* targets, std::int64_t rows, std::int64_t width, std::uint8_t* y) {
  const int lane = threadIdx.x % warp_size;
  const std::int64_t row = std::int64_t{blockIdx.x} * row_warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const std::int64_t target = targets[row];
  bool largest = target >= 0 && target < width;
  if (largest) {
    const float* x = logits + row * width;
    const float at = x[target];
    for (std::int64_t v = lane * N; v < width; v += warp_size * N) {
      float values[N];
      read_pack<N>(values, x + v);
#pragma unroll
      for (int i = 0; i < N; ++i) largest = largest && (v + i < target ? values[i] < at : values[i] <= at);
    }
  }
  const bool all = __all_sync(all_lanes, largest) != 0;
  if (lane == 0) y[row] = all ? 1 : 0;
}

void forward(const Tensor& logits, const Tensor& targets, Tensor& y) {
  const std::int64_t rows = targets.numel(), width = logits.shape().last();
  const auto find = [&]<int N>() {
    launch<find_matches<N>>(blocks_for(rows, row_warps), row_threads, 0, data<float>(logits), data<std::int64_t>(targets), rows, width,
                            data<std::uint8_t>(y));
  };
  if (width % pack == 0 && is_aligned(raw(logits), pack * sizeof(float)))
    find.template operator()<pack>();
  else
    find.template operator()<1>();
}

const bool added = add_kernel(argmax_matches_forward, forward, {DType::Float32});

}  // namespace
}  // namespace mblm::cuda
