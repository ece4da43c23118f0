// The threading primitive of the CPU kernels. Work is split by shape, not by the number of threads: tile sizes are constants
// of an op, and partial sums are stored per tile and added in tile order, so results have the same bits for any number of
// threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace mblm {

// The number of threads that parallel_tiles uses when called from this thread; each calling thread has its own helpers. The
// default is OpenMP's (OMP_NUM_THREADS, else one per processor).
int thread_count();
void set_thread_count(int threads);  // for calls from this thread
// Starts the threads now instead of at the first call of parallel_tiles. Returns their number, including this thread. It is smaller
// than thread_count() if the system refuses threads (limits on processes or address space): parallel_tiles then uses those that started.
int start_threads();

namespace detail {
using TileFn = void (*)(void* context, std::int64_t tile);
void run_tiles(std::int64_t tiles, TileFn run, void* context);
}  // namespace detail

// Splits [0, n) into tiles of `tile_size` elements (the last may be shorter) and calls f(begin, end, tile) for each tile
// [begin, end) on all threads, in no particular order. Runs on the calling thread when there is only one tile or when the
// caller is itself inside a tile. When tiles throw, one of the exceptions is rethrown after all tiles have finished. Tiles run in the
// mode of TinyNumbersAsZero (engine/tiny_numbers.h).
template <class F>
void parallel_tiles(std::int64_t n, std::int64_t tile_size, F&& f) {
  struct Context {
    std::remove_reference_t<F>* f;
    std::int64_t n, tile_size;
  } context{&f, n, tile_size};
  detail::run_tiles((n + tile_size - 1) / tile_size, [](void* opaque, std::int64_t tile) {
    const Context& c = *static_cast<Context*>(opaque);
    (*c.f)(tile * c.tile_size, std::min(c.n, (tile + 1) * c.tile_size), tile);
  }, &context);
}

inline std::int64_t tile_count(std::int64_t n, std::int64_t tile_size) { return (n + tile_size - 1) / tile_size; }

}  // namespace mblm
