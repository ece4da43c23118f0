// The read bandwidth of this machine.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "engine/parallel.h"

namespace mblm::bench {

// Bytes per second at which all threads together read a buffer of `bytes` bytes again and again, the best of several passes.
inline double read_bandwidth(std::size_t bytes) {
  const auto count = static_cast<std::int64_t>(std::max<std::size_t>(bytes / 8, 1));
  constexpr std::int64_t tile = 8192;  // words
  std::vector<std::uint64_t> words(static_cast<std::size_t>(count), 1), sums(static_cast<std::size_t>(tile_count(count, tile)));
  volatile std::uint64_t sink = 0;
  double best = 0, spent = 0;
  for (int pass = 0; pass < 5 || spent < 0.05; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel_tiles(count, tile, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      std::uint64_t sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += words[static_cast<std::size_t>(i)];
      sums[static_cast<std::size_t>(index)] = sum;
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const std::uint64_t sum : sums) sink = sink + sum;
    spent += seconds;
    if (pass > 0) best = std::max(best, static_cast<double>(count * 8) / seconds);  // the first pass warms up
  }
  return best;
}

}  // namespace mblm::bench
