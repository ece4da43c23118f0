#include "train/communicator.h"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "engine/error.h"
#include "engine/module.h"

namespace mblm {
namespace {

std::optional<int> number_in_environment(const char* name) {
  const char* text = std::getenv(name);
  int number = 0;
  if (text == nullptr || std::from_chars(text, text + std::strlen(text), number).ec != std::errc()) return {};
  return number;
}

void* open_mpi_module(const std::filesystem::path& file) {
  std::error_code ignored;
  require(std::filesystem::exists(file, ignored), "mpi: module not found: ", file.string(),
          "; it is required because a launcher started this process; build with -Dmpi=enabled");
  try {
    return open_module(file);
  } catch (const Error& error) {
    throw Error(concat_text("mpi: ", error.what()));
  }
}

// The first launcher that matches counts: within a Slurm step, mpirun counts its own processes. An srun step without MPI support sets
// none of the first three pairs; MPI then sees each process alone, which open_communicator reports.
LaunchedProcess process_of_launcher() {
  struct Launcher {
    const char *rank, *size;
  };
  constexpr Launcher launchers[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                    {"PMI_RANK", "PMI_SIZE"},
                                    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"},
                                    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};
  for (const Launcher& launcher : launchers) {
    const std::optional<int> rank = number_in_environment(launcher.rank), size = number_in_environment(launcher.size);
    if (rank && size) return {.is_launched = *size > 1, .rank = *rank, .size = *size};
  }
  const std::optional<int> rank = number_in_environment("PMIX_RANK");
  return {.is_launched = rank.has_value(), .rank = rank.value_or(0)};
}

int local_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
    if (const std::optional<int> rank = number_in_environment(name)) return *rank;
  return 0;
}

}  // namespace

LaunchedProcess launched_process() {
  LaunchedProcess process = process_of_launcher();
  process.local_rank = process.is_launched ? local_rank() : 0;
  return process;
}

std::unique_ptr<Communicator> open_communicator() {
  const LaunchedProcess process = launched_process();
  if (!process.is_launched) return nullptr;
  const std::filesystem::path file = module_path("mpi");
  void* open = dlsym(open_mpi_module(file), "mblm_open_communicator");
  require(open != nullptr, "mpi: expected mblm_open_communicator in ", file.string(), ", there is none");
  std::unique_ptr<Communicator> communicator(reinterpret_cast<Communicator* (*)()>(open)());
  require(process.size == 0 || communicator->size() == process.size, "mpi: expected ", process.size,
          " workers, the number that the launcher started, found ", communicator->size(), "; under Slurm use srun --mpi=pmix");
  return communicator;
}

}  // namespace mblm
