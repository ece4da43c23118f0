// Vendor libraries that are opened at run time: a missing library costs the features that need it, not the backend.
#pragma once

#include <initializer_list>
#include <string>

namespace mblm::cuda {

// The address of a function of a library; converts to the function's type.
struct Symbol {
  void* address = nullptr;
  template <class Function>
  operator Function*() const {
    return reinterpret_cast<Function*>(address);
  }
};

// Opens the first of `names` that exists in the folders of MBLM_CUDA_LIBRARIES (separated by ':') or on the loader's search path, which
// includes the toolkit's folder of the build. The library stays open.
class Library {
 public:
  Library(const char* title, std::initializer_list<const char*> names);

  const std::string& problem() const { return problem_; }  // why the library could not be opened; empty if it is open
  // Throws DeviceError with the problem, or if the library has no such function.
  Symbol function(const char* name) const;

 private:
  std::string title_, problem_;
  void* handle_ = nullptr;
};

}  // namespace mblm::cuda
