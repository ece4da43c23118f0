// CUDA libraries that are opened at run time, so that a missing one costs only its feature.
#pragma once

#include <initializer_list>
#include <string>

namespace mblm::cuda {

// Opens the first library that is found, in the order of `names` ("libcublasLt.so.13", "libcublasLt.so.12"), and keeps it open. Searches
// the loader's default paths, then each folder of the path list MBLM_CUDA_LIBRARIES and its folders X/lib. Such a folder is
// site-packages/nvidia of a Python environment with NVIDIA's wheels. Returns null, and in `reason` the loader's message, if none opens.
void* open_library(std::initializer_list<const char*> names, std::string& reason);

}  // namespace mblm::cuda
