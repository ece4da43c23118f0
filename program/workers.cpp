#include "program/workers.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "engine/parallel.h"
#include "program/program.h"

namespace mblm {
namespace {

struct Processors {
  std::array<char, 64> host{};
  cpu_set_t allowed{};
};

// Containers have their own host names but share the kernel's boot id.
std::string id_of_host() {
  std::string id;
  if (std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id)) return id;
  std::array<char, 64> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

Processors own_processors() {
  Processors own;
  const std::string host = id_of_host();
  std::copy_n(host.begin(), std::min(host.size(), own.host.size() - 1), own.host.begin());
  if (sched_getaffinity(0, sizeof own.allowed, &own.allowed) != 0) CPU_ZERO(&own.allowed);
  return own;
}

bool overlap(const Processors& a, const Processors& b) {
  cpu_set_t common;
  CPU_AND(&common, &a.allowed, &b.allowed);
  return a.host == b.host && CPU_COUNT(&common) > 0;
}

}  // namespace

int run_with_workers(const std::function<int(Communicator*)>& work) {
  std::unique_ptr<Communicator> communicator;
  try {
    communicator = open_communicator();
  } catch (const Error&) {
    if (launched_process().rank == 0) throw;
    return 1;
  }
  try {
    return work(communicator.get());
  } catch (const WorkerError& error) {  // report before the communicator closes: the launcher may then kill the others
    if (Workers(communicator.get()).is_rank0()) write_error(error.what());
    return 1;
  }
}

int threads_of_worker(const Workers& workers) {
  const Processors own = own_processors();
  const std::vector<Processors> all = workers.exchange_values(own);
  const auto sharing = std::count_if(all.begin(), all.end(), [&](const Processors& other) { return overlap(own, other); });
  if (workers.is_alone() || sharing == 0) return thread_count();
  return std::clamp(CPU_COUNT(&own.allowed) / static_cast<int>(sharing), 1, thread_count());
}

}  // namespace mblm
