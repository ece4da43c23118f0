#pragma once
#include <cstdint>

#include "engine/kernel.h"
#include "engine/random.h"

namespace mblm {

// The numbers of a training step that change from step to step. They live on the device, where kernels read and write them:
// a step then has the same launches and addresses each time, and the host reads a copy one step late instead of waiting.
// Whole numbers are exact up to 2^53.
struct StepScalars {
  double learning_rate = 0;             // of the next update; written by the host
  double micro_step = 0;                // index of the micro-batch, a part of every random key
  double loss_sum = 0;                  // losses of the micro-batches of the open group
  double count = 0;                     // their elements that count
  double gradient_norm = 0;             // global L2 norm of the last gradient, before clipping
  double clip_factor = 1;               // what that gradient was multiplied by
  double applies = 0;                   // 1: the last gradient may update the parameters
  double stopped = 0;                   // 1: no update applies any more (GradientNormOptions::stop_after_nonfinite)
  double steps = 0;                     // groups that ended
  double updates = 0;                   // groups whose update was applied: Adam's step
  double group_loss = 0;                // loss_sum of the last group
  double group_count = 0;               // count of the last group
  double nonfinite_step = 0;            // the last group, counted from 1, with a loss or gradient that was not finite; 0: none
  double nonfinite_loss = 0;            // its loss_sum
  double nonfinite_parameter = -1;      // the last segment of its gradient that was not finite; -1: only its loss
};

// A StepScalars as a tensor (numbers) float64.
Tensor make_step_scalars(Device device = {}, const StepScalars& values = {});
// The numbers of such a tensor; waits for the device.
StepScalars read_step_scalars(const Tensor& scalars);
// Overwrites one number from the host without waiting: write_step_scalar(scalars, &StepScalars::learning_rate, 1e-3).
void write_step_scalar(Tensor& scalars, double StepScalars::*number, double value);

// After a micro-batch: loss_sum += loss, count += count, micro_step += 1. loss a floating scalar; count an int64 scalar.
extern Kernel<void(const Tensor& loss, const Tensor& count, Tensor& scalars)> count_micro_step;

// Adds up over workers: `sums` (step_sums) float32 receives loss_sum, count and whether the loss is not finite; after the
// workers' sums have been added, `unpack_step_sums` writes the totals back. A worker whose loss is not finite makes the total
// not finite.
inline constexpr std::int64_t step_sums = 3;
extern Kernel<void(const Tensor& scalars, Tensor& sums)> pack_step_sums;
extern Kernel<void(const Tensor& sums, Tensor& scalars)> unpack_step_sums;

// A stream of random numbers whose step is the micro-step on the device. Without scalars the step is 0.
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
  Tensor scalars = {};  // StepScalars
  template <class F> void visit_tensors(F&& f) const { f(scalars); }
};

}  // namespace mblm
