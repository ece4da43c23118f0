// The program as one of several workers that a launcher (mpirun, srun) has started.
#pragma once

#include <functional>

#include "train/workers.h"

namespace mblm {

// Does `work` together with the other workers, or alone (null). It gives the exit status. What fails on all of them, or on one,
// is told once, and all have exit status 1.
int run_with_workers(const std::function<int(Communicator*)>& work);

// The processors that this worker may use, shared evenly with the workers of its host that may use them too. All workers ask.
int threads_of_worker(const Workers& workers);

}  // namespace mblm
