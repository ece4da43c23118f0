#include "cuda/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

namespace mblm::cuda {
namespace {

namespace fs = std::filesystem;

// The folders of MBLM_CUDA_LIBRARIES and their folders X/lib, the latter in order of name.
std::vector<fs::path> library_folders() {
  const char* list = std::getenv("MBLM_CUDA_LIBRARIES");
  std::vector<fs::path> folders;
  std::istringstream entries(list == nullptr ? "" : list);
  for (std::string entry; std::getline(entries, entry, ':');) {
    if (entry.empty()) continue;
    folders.emplace_back(entry);
    std::vector<fs::path> below;
    std::error_code ignored;
    for (fs::directory_iterator item(entry, ignored), end; !ignored && item != end; item.increment(ignored))
      if (fs::is_directory(item->path() / "lib", ignored)) below.push_back(item->path() / "lib");
    std::sort(below.begin(), below.end());
    folders.insert(folders.end(), below.begin(), below.end());
  }
  return folders;
}

void* open(const std::string& name, std::string& reason) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) reason = dlerror();
  return library;
}

}  // namespace

void* open_library(std::initializer_list<const char*> names, std::string& reason) {
  for (const char* name : names)
    if (void* library = open(name, reason)) return library;
  const std::string default_reason = reason;
  for (const fs::path& folder : library_folders()) {
    for (const char* name : names) {
      std::error_code ignored;
      if (!fs::exists(folder / name, ignored)) continue;
      if (void* library = open(folder / name, reason)) return library;
      return nullptr;  // present but damaged: its reason helps, that of the default paths does not
    }
  }
  reason = default_reason;
  return nullptr;
}

}  // namespace mblm::cuda
