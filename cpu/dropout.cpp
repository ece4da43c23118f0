#include "ops/dropout.h"

#include "cpu/kernel.h"
#include "cpu/step_scalars.h"

namespace mblm {
namespace {

// Random words drawn at once, four per block of Philox: 2 KiB on the stack.
constexpr std::int64_t group_blocks = 128;
constexpr std::int64_t group_words = 4 * group_blocks;

// words[i] = word of element 4 block + i of the stream. The loop over blocks has no branches, so that one lane draws one block.
void draw_words(RandomKey key, std::uint64_t block, std::uint32_t* words) {
#pragma omp simd
  for (std::int64_t i = 0; i < group_blocks; ++i) {
    const RandomWords four = philox(key, block + static_cast<std::uint64_t>(i));
    words[4 * i] = four[0];
    words[4 * i + 1] = four[1];
    words[4 * i + 2] = four[2];
    words[4 * i + 3] = four[3];
  }
}

// Elements [begin, end) of a tensor whose element 0 is `first_element` of the stream. Groups of words begin at multiples of four.
template <class T>
void drop_tile(const T* in, T* out, std::int64_t begin, std::int64_t end, RandomKey key, std::uint64_t first_element, std::uint32_t threshold,
               Real<T> factor) {
  std::uint32_t words[group_words];
  std::int64_t i = begin;
  while (i < end) {
    const std::uint64_t element = first_element + static_cast<std::uint64_t>(i);
    const std::int64_t skipped = static_cast<std::int64_t>(element % 4), count = std::min(end - i, group_words - skipped);
    draw_words(key, element / 4, words);
    const std::uint32_t* word = words + skipped;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) write(out[i + j], word[j] >= threshold ? read(in[i + j]) * factor : Real<T>(0));
    i += count;
  }
}

// Compute bound: 40 multiplications per four random words.
void drop(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element, Tensor& y) {
  const RandomKey key = key_of(stream);
  for_floating_type("dropout_forward", x.dtype(), [&]<class T>() {
    const std::uint32_t threshold = dropout_threshold(p);
    const Real<T> factor = static_cast<Real<T>>(1 / (1 - p));
    const T* in = data<T>(x);
    T* out = data<T>(y);
    parallel_tiles(x.numel(), elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      drop_tile(in, out, begin, end, key, first_element, threshold, factor);
    });
  });
}

const bool added = add_cpu_floating_kernel(dropout_forward, drop);

}  // namespace
}  // namespace mblm
