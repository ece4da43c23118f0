// Files of one array in NumPy's format (numpy.lib.format, version 1.0).
#pragma once

#include <string>

#include "engine/tensor.h"

namespace mblm {

// The whole file for a tensor of any device. Throws DTypeError for bfloat16, which NumPy does not know.
std::string npy_file(const Tensor& x);

}  // namespace mblm
