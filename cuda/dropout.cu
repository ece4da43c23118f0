#include "ops/dropout.h"

#include "cuda/map.h"

namespace mblm::cuda {
namespace {

// A thread draws the masks of N neighbouring elements of x, a multiple of four or one, and writes them. Philox gives the words of four
// elements at once: a thread draws N / 4 blocks if `first_element` is a multiple of four (whole_blocks), otherwise one more.
// bfloat16: 4 bytes per element; 10 rounds of two 32 x 32-bit products per four elements. The micro-step is read on the device, so
// that the launch is the same in every step.
template <class T, int N, bool whole_blocks>
__global__ void __launch_bounds__(map_threads) drop_elements(const T* x, std::int64_t n, RandomKey key, const double* micro_step,
                                                             std::uint64_t first_element, std::uint32_t threshold, float factor, T* y) {
  const std::int64_t begin = (std::int64_t{blockIdx.x} * map_threads + threadIdx.x) * N;
  if (begin >= n) return;
  if (micro_step != nullptr) key.step = static_cast<std::uint32_t>(static_cast<std::uint64_t>(*micro_step));
  if (begin + N > n) {
    for (std::int64_t i = begin; i < n; ++i)
      y[i] = dropout_keeps(key, first_element + static_cast<std::uint64_t>(i), threshold) ? from_float<T>(to_float(x[i]) * factor) : T{};
    return;
  }
  float v[N];
  read_pack(v, x + begin);
  RandomWords words;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const std::uint64_t element = first_element + static_cast<std::uint64_t>(begin) + static_cast<std::uint64_t>(j);
    // A chain of selections, because registers cannot be indexed.
    const unsigned place = whole_blocks ? static_cast<unsigned>(j) % 4 : static_cast<unsigned>(element % 4);
    if (j == 0 || place == 0) words = philox(key, element / 4);
    const std::uint32_t word = place == 0 ? words.word[0] : place == 1 ? words.word[1] : place == 2 ? words.word[2] : words.word[3];
    v[j] = word >= threshold ? v[j] * factor : 0.0f;
  }
  write_pack<N>(y + begin, v);
}

void forward(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element, Tensor& y) {
  const double* micro_step = stream.scalars.defined() ? &reinterpret_cast<const StepScalars*>(data<double>(stream.scalars))->micro_step : nullptr;
  for_element_type("dropout_forward", x.dtype(), [&]<class T>() {
    constexpr int N = bytes_per_access / sizeof(T);
    const std::int64_t n = x.numel();
    const T* from = data<T>(x);
    T* to = data<T>(y);
    const auto start = [&]<int count, bool whole_blocks>() {
      launch<drop_elements<T, count, whole_blocks>>(blocks_for(n, std::int64_t{count} * map_threads), map_threads, 0, from, n,
                                                    RandomKey{stream.seed, stream.site, 0}, micro_step, first_element, dropout_threshold(p),
                                                    static_cast<float>(1 / (1 - p)), to);
    };
    if (!is_aligned(from, bytes_per_access) || !is_aligned(to, bytes_per_access))
      start.template operator()<1, false>();
    else if (first_element % 4 == 0)
      start.template operator()<N, true>();
    else
      start.template operator()<N, false>();
  });
}

const bool added = add_kernel(dropout_forward, forward);

}  // namespace
}  // namespace mblm::cuda
