#pragma once

#include <omp.h>

namespace mblm {

// During its lifetime, a library called from this thread uses one thread. Inside a parallel region it does so in any case. Outside,
// oneDNN would use all threads, and its sums would depend on their number.
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
};

}  // namespace mblm
