#pragma once

#include <omp.h>

#include <utility>

#ifdef MBLM_ONEDNN
#include <dnnl_config.h>
#endif
#if defined(MBLM_ONEDNN) && DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_TBB
#define MBLM_ONEDNN_TBB
#include <tbb/task_arena.h>
#endif

namespace mblm {

// Calls f, within which oneDNN uses only the calling thread. Otherwise oneDNN would use all threads outside of a parallel region, and its
// sums would depend on their number.
template <class F>
auto on_one_thread(F&& f) {
#ifdef MBLM_ONEDNN_TBB
  static thread_local tbb::task_arena arena(1);
  return arena.execute(std::forward<F>(f));
#else
  class OneThread {
   public:
    OneThread() : before_(omp_in_parallel() != 0 ? 1 : omp_get_max_threads()) {
      if (before_ > 1) omp_set_num_threads(1);
    }
    ~OneThread() {
      if (before_ > 1) omp_set_num_threads(before_);
    }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

   private:
    int before_;
  } const one_thread;
  return std::forward<F>(f)();
#endif
}

}  // namespace mblm
