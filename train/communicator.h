// Communication between the processes that train a model together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/collective.h"

namespace mblm {

// Collective operations on tensors, and exchange of bytes between workers.
class Communicator : public Collective {
 public:
  // Returns the bytes of all workers, in order of rank. All workers must call gather, sum and broadcast in the same order.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
};

// Connects the processes started by a launcher (mpirun, srun). Returns null if this process was started without one. Loads MPI with
// the module `libmblm_mpi.so` next to this library. Initializes MPI unless it is initialized, and then finalizes it when the
// communicator is destroyed, so that a process can do this once. Throws Error if the module is missing or cannot be loaded, and if
// MPI and the launcher disagree on the number of workers.
std::unique_ptr<Communicator> open_communicator();

// Rank, size and rank on the host of this process from the environment variables of the launcher. `size` 0 means unknown.
struct LaunchedProcess {
  bool is_launched = false;
  int rank = 0, size = 0;
  int local_rank = 0;  // number of the process on its host
};
LaunchedProcess launched_process();

}  // namespace mblm
