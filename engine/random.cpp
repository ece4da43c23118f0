#include "engine/random.h"

#include <bit>

#include "engine/error.h"

namespace mblm {

std::uint64_t random_permutation(RandomKey key, std::uint64_t n, std::uint64_t i) {
  require<ValueError>(i < n, "random_permutation: expected an element below ", n, ", got ", i);
  const int half = n <= 2 ? 1 : (std::bit_width(n - 1) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  std::uint64_t value = i;
  do {
    std::uint64_t left = value >> half, right = value & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      RandomKey round_key = key;
      round_key.step += static_cast<std::uint32_t>(round * 0x9E3779B9u);
      const RandomWords words = philox(round_key, right);
      const std::uint64_t mixed = (left ^ (words[0] | std::uint64_t{words[1]} << 32)) & mask;
      left = right;
      right = mixed;
    }
    value = left << half | right;
  } while (value >= n);
  return value;
}

}  // namespace mblm
