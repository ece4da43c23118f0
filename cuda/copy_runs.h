// Copies of many runs of bytes, for the kernels that only move rows.
#pragma once

#include <bit>

#include "cuda/kernel.h"

namespace mblm::cuda {

// `bytes` bytes from `from` to `to`; zeros if `from` is null.
struct Run {
  char* to;
  const char* from;
  std::int64_t bytes;
};

inline constexpr int copy_threads = 256;
inline constexpr int units_per_thread = 4;  // 64 bytes under way per thread

// How a grid copies runs. A block has copy_threads / lanes groups of `lanes` threads; a group copies one piece of a run, of
// lanes * units_per_thread units.
struct RunGrid {
  std::int64_t count;     // runs
  int lanes;              // a power of two
  std::uint32_t pieces;   // pieces of a run
};

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// Runs is trivially copyable and has `__device__ Run operator()(std::int64_t i) const`. All addresses and sizes are multiples of
// sizeof(Unit). Memory bound: every byte is read once and written once. The threads of a group access neighbouring units, and each
// reads its units before it writes them.
template <class Unit, class Runs>
__global__ void __launch_bounds__(copy_threads) copy_units(Runs runs, RunGrid grid) {
  const int group = static_cast<int>(threadIdx.x) / grid.lanes, lane = static_cast<int>(threadIdx.x) % grid.lanes, groups = copy_threads / grid.lanes;
  const std::int64_t i = std::int64_t{blockIdx.x / grid.pieces} * groups + group;
  if (i >= grid.count) return;
  const Run run = runs(i);
  const std::int64_t units = run.bytes / static_cast<std::int64_t>(sizeof(Unit)),
                     first = std::int64_t{blockIdx.x % grid.pieces} * units_per_thread * grid.lanes + lane;
  Unit* to = reinterpret_cast<Unit*>(run.to);
  const Unit* from = reinterpret_cast<const Unit*>(run.from);
  Unit moved[units_per_thread] = {};
#pragma unroll
  for (int k = 0; k < units_per_thread; ++k)
    if (from != nullptr && first + k * grid.lanes < units) moved[k] = from[first + k * grid.lanes];
#pragma unroll
  for (int k = 0; k < units_per_thread; ++k)
    if (first + k * grid.lanes < units) to[first + k * grid.lanes] = moved[k];
}

#endif

// Bytes of `elements` elements of x.
inline std::int64_t bytes_of(const Tensor& x, std::int64_t elements) { return elements * static_cast<std::int64_t>(size_of(x.dtype())); }

// The bits that addresses, strides and sizes of runs have in common decide how many bytes are moved at once.
class Alignment {
 public:
  Alignment& with(const void* p) { return with(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p))); }
  Alignment& with(std::int64_t bytes) {
    bits_ |= static_cast<std::uint64_t>(bytes);
    return *this;
  }
  int unit() const { return 1 << std::min(4, std::countr_zero(bits_)); }  // 1 .. 16

 private:
  std::uint64_t bits_ = 0;
};

// Copies `count` runs of at most `longest` bytes. Every address, offset and size that `runs` computes with is part of `alignment`.
template <class Runs>
void copy_runs(const Runs& runs, std::int64_t count, std::int64_t longest, const Alignment& alignment) {
  if (count == 0 || longest == 0) return;
  const auto start = [&]<class Unit>() {
    const std::int64_t units = divide_up(longest, sizeof(Unit));
    // Up to 64 units: one unit per thread, so that a group is short. Up to 256: a group of 64. Longer runs: the whole block.
    const int lanes = units <= 64 ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(units))) : units <= 64 * units_per_thread ? 64 : copy_threads;
    const std::int64_t pieces = divide_up(units, std::int64_t{lanes} * units_per_thread);
    launch<copy_units<Unit, Runs>>(blocks_for(divide_up(count, copy_threads / lanes) * pieces, 1), copy_threads, 0, runs,
                                   RunGrid{count, lanes, static_cast<std::uint32_t>(pieces)});
  };
  switch (alignment.unit()) {
    case 16: return start.template operator()<Pack<std::uint64_t, 2>>();
    case 8: return start.template operator()<std::uint64_t>();
    case 4: return start.template operator()<std::uint32_t>();
    case 2: return start.template operator()<std::uint16_t>();
    default: return start.template operator()<std::uint8_t>();
  }
}

}  // namespace mblm::cuda
