#include "ops/step_scalars.h"

#include <cstddef>
#include <cstring>
#include <vector>

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> count_micro_step{"count_micro_step"};
constinit Kernel<void(const Tensor&, Tensor&)> pack_step_sums{"pack_step_sums"};
constinit Kernel<void(const Tensor&, Tensor&)> unpack_step_sums{"unpack_step_sums"};

namespace {

constexpr std::size_t numbers = sizeof(StepScalars) / sizeof(double);

}  // namespace

Tensor make_step_scalars(Device device, const StepScalars& values) {
  std::vector<double> all(numbers);
  std::memcpy(all.data(), &values, sizeof values);
  return from_values<double>(Shape{static_cast<std::int64_t>(numbers)}, all, device);
}

StepScalars read_step_scalars(const Tensor& scalars) {
  const std::vector<double> all = scalars.to_vector<double>();
  StepScalars values;
  std::memcpy(static_cast<void*>(&values), all.data(), sizeof values);
  return values;
}

void write_step_scalar(Tensor& scalars, double StepScalars::*number, double value) {
  const StepScalars place;
  const auto index = (reinterpret_cast<const std::byte*>(&(place.*number)) - reinterpret_cast<const std::byte*>(&place)) / std::ptrdiff_t{sizeof(double)};
  scalars.slice(index, index + 1).from_host(&value);
}

}  // namespace mblm
