// How the processes that train one model together talk to each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/collective.h"

namespace mblm {

// The collective operations of tensors, and messages of bytes between the workers' hosts.
class Communicator : public Collective {
 public:
  // The bytes of all workers, in order of rank. All workers call it, in the same order as sum and broadcast.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
};

// This process among those that a launcher (mpirun, srun) has started together, null when it was started alone. MPI comes in
// by the module `libmblm_mpi.so` beside this library, which is opened only then. MPI is initialised unless it is already, and
// finalised when the communicator is destroyed: once in a process. Throws Error when the module is missing or does not open, and
// when MPI finds other workers than the launcher tells of.
std::unique_ptr<Communicator> open_communicator();

// What the launcher says of this process, by its environment: nothing where it was started alone. `size` 0: unknown.
struct LaunchedProcess {
  bool is_launched = false;
  int rank = 0, size = 0;
};
LaunchedProcess launched_process();

}  // namespace mblm
