#include "cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>
#include <vector>

#include "engine/error.h"

namespace mblm::cuda {
namespace {

constexpr const char* folders_variable = "MBLM_CUDA_LIBRARIES";

// The candidate paths in order: every name in each folder of the variable, then the bare names.
std::vector<std::string> candidates(std::initializer_list<const char*> names) {
  std::vector<std::string> paths;
  if (const char* folders = std::getenv(folders_variable)) {
    std::istringstream list(folders);
    for (std::string folder; std::getline(list, folder, ':');)
      if (!folder.empty())
        for (const char* name : names) paths.push_back(folder + '/' + name);
  }
  paths.insert(paths.end(), names.begin(), names.end());
  return paths;
}

}  // namespace

Library::Library(const char* title, std::initializer_list<const char*> names) : title_(title) {
  std::string reason;
  for (const std::string& path : candidates(names)) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    if (reason.empty()) reason = dlerror();
  }
  problem_ = concat_text(title, ": library not found (", reason, "); install it, or list its folder in ", folders_variable);
}

Symbol Library::function(const char* name) const {
  require<DeviceError>(handle_ != nullptr, problem_);
  void* address = dlsym(handle_, name);
  require<DeviceError>(address != nullptr, title_, ": the library has no function ", name);
  return {address};
}

}  // namespace mblm::cuda
