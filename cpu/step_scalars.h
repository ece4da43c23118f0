// Step scalars in the CPU kernels.
#pragma once

#include "engine/kernel_data.h"
#include "ops/step_scalars.h"

namespace mblm {

inline const StepScalars& step_scalars(const Tensor& scalars) { return *reinterpret_cast<const StepScalars*>(data<double>(scalars)); }
inline StepScalars& step_scalars(Tensor& scalars) { return *reinterpret_cast<StepScalars*>(data<double>(scalars)); }

inline RandomKey key_of(const RandomStream& stream) {
  const double step = stream.scalars.defined() ? step_scalars(stream.scalars).micro_step : 0;
  return {stream.seed, stream.site, static_cast<std::uint32_t>(static_cast<std::uint64_t>(step))};
}

}  // namespace mblm
