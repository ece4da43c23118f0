#include "cuda/step_scalars.h"

#include <limits>

#include "cuda/kernel.h"

namespace mblm::cuda {
namespace {

// Kernels of one thread: a few scalars that stay on the device.

__global__ void __launch_bounds__(1) count_step(const float* loss, const std::int64_t* count, StepScalars* scalars) {
  scalars->loss_sum += static_cast<double>(*loss);
  scalars->count += static_cast<double>(*count);
  scalars->micro_step += 1;
}

// x - x is 0 for finite x and NaN otherwise.
__global__ void __launch_bounds__(1) pack_sums(const StepScalars* scalars, float* sums) {
  const double loss = scalars->loss_sum;
  sums[0] = static_cast<float>(loss);
  sums[1] = static_cast<float>(scalars->count);
  sums[2] = loss - loss == 0 ? 0.0f : 1.0f;
}

__global__ void __launch_bounds__(1) unpack_sums(const float* sums, StepScalars* scalars) {
  const double loss = static_cast<double>(sums[0]);
  scalars->loss_sum = sums[2] == 0 ? loss : loss * std::numeric_limits<double>::infinity();
  scalars->count = static_cast<double>(sums[1]);
}

void count(const Tensor& loss, const Tensor& elements, Tensor& scalars) {
  launch<count_step>(1, 1, 0, data<float>(loss), data<std::int64_t>(elements), step_scalars(scalars));
}
void pack(const Tensor& scalars, Tensor& sums) { launch<pack_sums>(1, 1, 0, step_scalars(scalars), data<float>(sums)); }
void unpack(const Tensor& sums, Tensor& scalars) { launch<unpack_sums>(1, 1, 0, data<float>(sums), step_scalars(scalars)); }

const bool added = add_kernel(count_micro_step, count, {DType::Float32}) && add_kernel(pack_step_sums, pack, {DType::Float64}) &&
                   add_kernel(unpack_step_sums, unpack, {DType::Float64});

}  // namespace
}  // namespace mblm::cuda
