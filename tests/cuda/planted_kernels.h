// Kernels with one mistake each, for the test of the emulator. x and y are arrays of 256 floats in device memory.
#pragma once

#include <map>
#include <string>

namespace mblm::testing {

struct Arrays {
  float *x, *y;
};

// By the kernel's name. In planted_kernels.cpp the line that the emulator must name has the comment "// here: NAME".
const std::map<std::string, void (*)(Arrays)>& planted_kernels();

bool accesses_are_checked();  // whether planted_kernels.cpp is compiled with -fsanitize=thread

}  // namespace mblm::testing
