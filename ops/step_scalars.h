#pragma once
#include <cstdint>

#include "engine/kernel.h"
#include "engine/random.h"

namespace mblm {

// The scalars of a training step that change from step to step. They are stored on the device, where kernels read and write them.
// So every step has the same launches and addresses, and the host reads a copy one step late instead of waiting.
// Integers are exact up to 2^53. A group is the micro-batches of one update.
struct StepScalars {
  double learning_rate = 0;         // learning rate of the next update; written by the host
  double micro_step = 0;            // index of the micro-batch; part of every random key
  double loss_sum = 0;              // sum of the losses of the open group
  double count = 0;                 // number of elements in these losses (CrossEntropy::count)
  double gradient_norm = 0;         // global L2 norm of the last gradient, before clipping
  double clip_factor = 1;           // factor of the last gradient
  double applies = 0;               // 1: the last gradient updates the parameters; 0: it does not
  double stopped = 0;               // 1: no later update applies (GradientNormOptions::stop_after_nonfinite)
  double steps = 0;                 // number of finished groups
  double updates = 0;               // number of applied updates: Adam's step
  double group_loss = 0;            // loss_sum of the last finished group
  double group_count = 0;           // count of the last finished group
  double nonfinite_step = 0;        // last recorded group with a non-finite loss or gradient, counted from 1; 0: none
  double nonfinite_loss = 0;        // loss_sum of that group
  double nonfinite_parameter = -1;  // last segment of its gradient with a non-finite element; -1: only the loss is not finite
};

// The values as a tensor of one float64 per member, in the order of the struct.
Tensor make_step_scalars(Device device = {}, const StepScalars& values = {});
// Reads such a tensor; waits for the device.
StepScalars read_step_scalars(const Tensor& scalars);
// Overwrites one member from the host without waiting: write_step_scalar(scalars, &StepScalars::learning_rate, 1e-3).
void write_step_scalar(Tensor& scalars, double StepScalars::*number, double value);

// After a micro-batch: loss_sum += loss, scalars.count += count, micro_step += 1. loss float32 or float64 scalar; count int64 scalar.
extern Kernel<void(const Tensor& loss, const Tensor& count, Tensor& scalars)> count_micro_step;

// Sums over workers. pack_step_sums writes loss_sum, count, and 1 for a non-finite loss_sum (else 0) to `sums` (step_sums) float32.
// After the sums of all workers have been added, unpack_step_sums writes the totals back; a non-finite loss of any worker makes the
// total non-finite.
inline constexpr std::int64_t step_sums = 3;
extern Kernel<void(const Tensor& scalars, Tensor& sums)> pack_step_sums;
extern Kernel<void(const Tensor& sums, Tensor& scalars)> unpack_step_sums;

// A stream of random numbers: the RandomKey (seed, site, micro_step of `scalars`). Without scalars the step is 0.
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
  Tensor scalars = {};  // a StepScalars tensor
  template <class F> void visit_tensors(F&& f) const { f(scalars); }
};

}  // namespace mblm
