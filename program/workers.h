// Runs the program as one of several workers started by a launcher (mpirun, srun).
#pragma once

#include <functional>

#include "train/workers.h"

namespace mblm {

// Runs `work` with the communicator of the workers, or with null if there is one process only. `work` returns the exit status.
// An error on any worker is reported once, and all workers have exit status 1.
int run_with_workers(const std::function<int(Communicator*)>& work);

// Number of threads for this worker: its allowed processors, shared evenly with the workers of the host that may use the same ones.
// All workers must call this.
int threads_of_worker(const Workers& workers);

}  // namespace mblm
