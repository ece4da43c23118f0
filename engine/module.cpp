#include "engine/module.h"

#include <dlfcn.h>

#include "engine/error.h"

namespace mblm {

std::filesystem::path module_path(const std::string& name) {
  Dl_info library{};
  const bool found = dladdr(reinterpret_cast<const void*>(&module_path), &library) != 0 && library.dli_fname != nullptr;
  return ((found ? std::filesystem::path(library.dli_fname).parent_path() : std::filesystem::path()) / ("libmblm_" + name + ".so")).lexically_normal();
}

void* open_module(const std::filesystem::path& path) {
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  require(module != nullptr, "cannot open the module: ", module == nullptr ? dlerror() : "");
  return module;
}

}  // namespace mblm
