// Step scalars in the CUDA kernels, which read and write them in device memory.
#pragma once

#include "engine/kernel_data.h"
#include "ops/step_scalars.h"

namespace mblm::cuda {

inline const StepScalars* step_scalars(const Tensor& scalars) { return reinterpret_cast<const StepScalars*>(data<double>(scalars)); }
inline StepScalars* step_scalars(Tensor& scalars) { return reinterpret_cast<StepScalars*>(data<double>(scalars)); }

}  // namespace mblm::cuda
