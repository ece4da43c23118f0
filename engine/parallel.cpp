#include "engine/parallel.h"

#include <omp.h>

#include <exception>
#include <mutex>

namespace mblm {

int thread_count() { return omp_get_max_threads(); }
void set_thread_count(int threads) { omp_set_num_threads(std::max(1, threads)); }

namespace detail {

void run_tiles(std::int64_t tiles, TileFn run, void* context) {
  if (tiles <= 1 || omp_in_parallel() != 0 || omp_get_max_threads() == 1) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) run(context, tile);
    return;
  }
  std::exception_ptr failure;
  std::mutex mutex;
#pragma omp parallel for schedule(dynamic, 1)
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    try {
      run(context, tile);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail
}  // namespace mblm
