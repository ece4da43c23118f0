#include "cpu/step_scalars.h"

#include <cmath>
#include <limits>

#include "cpu/kernel.h"

namespace mblm {
namespace {

void count_step(const Tensor& loss, const Tensor& count, Tensor& scalars) {
  StepScalars& s = step_scalars(scalars);
  for_real_type("count_micro_step", loss.dtype(), [&]<class T>() { s.loss_sum += static_cast<double>(*data<T>(loss)); });
  s.count += static_cast<double>(*data<std::int64_t>(count));
  s.micro_step += 1;
}

void pack(const Tensor& scalars, Tensor& sums) {
  const StepScalars& s = step_scalars(scalars);
  float* out = data<float>(sums);
  out[0] = static_cast<float>(s.loss_sum);
  out[1] = static_cast<float>(s.count);
  out[2] = std::isfinite(s.loss_sum) ? 0.0f : 1.0f;
}

void unpack(const Tensor& sums, Tensor& scalars) {
  StepScalars& s = step_scalars(scalars);
  const float* in = data<float>(sums);
  s.loss_sum = in[2] == 0 ? static_cast<double>(in[0]) : static_cast<double>(in[0]) * std::numeric_limits<double>::infinity();
  s.count = static_cast<double>(in[1]);
}

const bool added = add_cpu_kernel(count_micro_step, count_step) && pack_step_sums.add(DeviceKind::Cpu, {DType::Float64}, pack) &&
                   unpack_step_sums.add(DeviceKind::Cpu, {DType::Float64}, unpack);

}  // namespace
}  // namespace mblm
