// Shared libraries that are opened at run time.
#pragma once

#include <filesystem>
#include <string>

namespace mblm {

// The path of the module `libmblm_NAME.so`, in the folder of this library.
std::filesystem::path module_path(const std::string& name);

// Opens a module, which stays open, and returns its handle for dlsym. Throws Error with the reason.
void* open_module(const std::filesystem::path& path);

}  // namespace mblm
