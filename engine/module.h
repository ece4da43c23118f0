// Shared libraries that are opened while a program runs.
#pragma once

#include <filesystem>
#include <string>

namespace mblm {

// Where the module `libmblm_NAME.so` lies when it is installed: beside this library.
std::filesystem::path module_path(const std::string& name);

// Opens a module, which stays open, and gives the handle that dlsym takes. Throws Error with the reason.
void* open_module(const std::filesystem::path& path);

}  // namespace mblm
