#include "tests/cuda/planned_bytes.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "engine/device.h"
#include "tests/cuda/emulator/emulator.h"

namespace mblm::testing {
namespace {

using Arguments = std::span<const Tensor>;

double bytes_of(const Tensor& x) { return x.defined() ? static_cast<double>(x.bytes()) : 0; }

double each_once(Arguments tensors) {
  double sum = 0;
  for (const Tensor& x : tensors) sum += bytes_of(x);
  return sum;
}

// The tensors with these indices count another time: results that are added to, and inputs of two kernels.
auto and_again(std::vector<std::size_t> indices) {
  return [=](Arguments tensors) {
    double sum = each_once(tensors);
    for (const std::size_t i : indices) sum += bytes_of(tensors[i]);
    return sum;
  };
}

// A copy of a part of one tensor to a part of another: the smaller tensor is taken whole.
double part_copied(Arguments tensors) { return 2 * std::min(bytes_of(tensors.front()), bytes_of(tensors.back())); }

// dy (B, P, D), out (T, D): T of the P rows of each sequence are read.
double sum_over_batch_bytes(Arguments t) {
  const double used = t[0].size(1) == 0 ? 0 : static_cast<double>(t[1].size(0)) / static_cast<double>(t[0].size(1));
  return used * bytes_of(t[0]) + 2 * bytes_of(t[1]);
}

// start, x, positions, above, offsets, y: as many rows of the positions as x has tokens.
double stage_input_bytes(Arguments t) {
  const double unused = t[2].defined() && t[2].size(0) > 0 ? 1 - static_cast<double>(t[1].size(1)) / static_cast<double>(t[2].size(0)) : 0;
  return each_once(t) - unused * bytes_of(t[2]);
}

// x, inverse_frequencies, positions, y. In place, only q and k of q, k, v are rotated.
double rotary_bytes(Arguments t) { return each_once(t) - (t[0].same_storage(t[3]) ? bytes_of(t[0]) * 2 / 3 : 0); }

constexpr std::int64_t most_tokens_in_one_block = 64, most_tokens_in_one_warp = 16;

// qkv, y, log_sum_exp, dy, key_mask, scalars, dqkv. Short sequences: y is not read. Long ones: y and dy for the sums dy . y, then two kernels
// read qkv, dy and the log-sum-exp.
double attention_backward_bytes(Arguments t) {
  const bool tiled = t[0].dtype() == DType::BFloat16 && t[0].size(1) <= most_tokens_in_one_block;
  return tiled ? each_once(t) - bytes_of(t[1]) : each_once(t) + bytes_of(t[0]) + 2 * bytes_of(t[3]) + bytes_of(t[2]);
}

// x, x, dt, a_log, b, c, d, initial, y, chunk_states, final_state. With several chunks, one kernel computes the states at their borders from
// x, b and dt, and another the outputs from those and the inputs. `x` is listed twice.
double ssd_forward_bytes(Arguments t) {
  return bytes_of(t[9]) > 0 ? each_once(t) + bytes_of(t[2]) + bytes_of(t[4]) + bytes_of(t[9]) : each_once(t) - bytes_of(t[0]);
}
// dy, dfinal, x, dt, a_log, b, c, d, initial, chunk_states, dx, ... With several chunks, the states' gradients take another pass over dy, c, dt.
double ssd_backward_bytes(Arguments t) { return each_once(t) + (bytes_of(t[9]) > 0 ? bytes_of(t[0]) + bytes_of(t[6]) + bytes_of(t[3]) : 0); }

const std::map<std::string, std::function<double(Arguments)>>& plans() {
  static const std::map<std::string, std::function<double(Arguments)>> all{
      {"accumulate", and_again({0})},
      {"adam_step", and_again({0, 2, 3})},
      {"attention_backward", attention_backward_bytes},
      {"causal_conv1d_backward", and_again({7, 8})},
      {"copy_columns", part_copied},
      {"copy_sequence", part_copied},
      {"embedding_backward", and_again({2})},
      {"flatten_patches_forward", part_copied},
      {"layer_norm_backward", and_again({5, 6})},
      {"rms_norm_backward", and_again({5})},
      {"rotary_forward", rotary_bytes},
      {"selective_scan_forward", [](Arguments t) { return each_once(t) - bytes_of(t[0]); }},  // x is listed twice
      {"ssd_scan_backward", ssd_backward_bytes},
      {"ssd_scan_forward", ssd_forward_bytes},
      {"stage_input_backward", part_copied},
      {"stage_input_forward", stage_input_bytes},
      {"sum_over_batch", sum_over_batch_bytes},
  };
  return all;
}

}  // namespace

double planned_bytes(const KernelSlot& slot, Arguments arguments) {
  const auto found = plans().find(slot.name());
  return found == plans().end() ? each_once(arguments) : found->second(arguments);
}

SlotBytes::SlotBytes() { emulator::counts() = {}; }

void SlotBytes::add_copies_and_fills() {
  const emulator::Counts& c = emulator::counts();
  Moved& moved = slots_["copies and fills"];
  moved.calls += static_cast<std::int64_t>(c.copies_within + c.fills);
  const double bytes = 2.0 * static_cast<double>(c.bytes_within) + static_cast<double>(c.bytes_filled);
  moved.planned += bytes;
  moved.measured += bytes;
  emulator::counts() = {};
}

const std::map<std::string, Moved>& SlotBytes::slots() {
  add_copies_and_fills();
  return slots_;
}

void SlotBytes::before(const KernelSlot& slot, Device device, Arguments arguments) {
  planned_ = planned_bytes(slot, arguments);
  runtime_of(device.kind).synchronize(device.index);
  add_copies_and_fills();
}

void SlotBytes::after(const KernelSlot& slot, Device device) {
  runtime_of(device.kind).synchronize(device.index);
  const emulator::Counts& c = emulator::counts();
  const double own = 2.0 * static_cast<double>(c.block_bytes), libraries = static_cast<double>(c.library_bytes);
  Moved& moved = slots_[slot.name()];
  ++moved.calls;
  moved.planned += own + (libraries > 0 ? libraries : planned_);
  moved.measured += static_cast<double>(c.kernel_bytes) + libraries;
  emulator::counts().library_bytes = emulator::counts().kernel_bytes = emulator::counts().block_bytes = 0;
}

}  // namespace mblm::testing
