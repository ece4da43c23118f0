// The loop of the elementwise kernels.
#pragma once

#include "cpu/kernel.h"

namespace mblm {

// Runs f(i) for every element i < n: tiles in parallel, elements in vector lanes.
template <class F>
void for_each_element(std::int64_t n, F&& f) {
  parallel_tiles(n, elementwise_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace mblm
