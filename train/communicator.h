// How the processes that train one model together talk to each other.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mblm {

// One of `size` workers. The functions below rank and size are called by all of them, in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;  // 0 .. size - 1
  virtual int size() const = 0;

  // What each worker gives, in order of rank.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
  // Worker 0's bytes, to all; of the same size everywhere.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
  // values[i] = ((v_0 + v_1) + v_2) + ..., v_r being worker r's; of the same size everywhere. The order is that of the ranks, so
  // that the bits are the same on every worker and in each run.
  virtual void sum(std::span<float> values) = 0;
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
