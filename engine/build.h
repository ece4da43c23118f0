// What the bits of a computation depend on besides its inputs and the device: for files that only the same build can read.
#pragma once

#include <string>

#include "engine/device.h"

namespace mblm {

// The contents of this library and of the backend of a device, and the version of the C library: "build 64996710c429a615, glibc 2.36".
// Every change of the library's code is another build; copying, installing and stripping it are not.
std::string build_name(Device device);

// The instructions that the CPU kernels are compiled for: "avx512 bf16", "neon". The floating-point mode of this thread is not part of it:
// kernels set their own (engine/tiny_numbers.h).
std::string instruction_set();

// The name that files give to a device: "cpu", or the model of a GPU.
std::string device_model(Device device);

}  // namespace mblm
