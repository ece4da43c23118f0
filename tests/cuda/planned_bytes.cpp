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

constexpr std::int64_t most_tokens_in_one_block = 64, most_tokens_in_one_warp = 16;

// qkv, y, log_sum_exp, dy, key_mask, scalars, dqkv. Short sequences: y is not read. Long ones: y and dy for the sums dy . y, then two kernels
// read qkv, dy and the log-sum-exp.
double attention_backward_bytes(Arguments t) {
  const bool tiled = t[0].dtype() == DType::BFloat16 && t[0].size(1) <= most_tokens_in_one_block;
  return tiled ? each_once(t) - bytes_of(t[1]) : each_once(t) + bytes_of(t[0]) + 2 * bytes_of(t[3]) + bytes_of(t[2]);
}

const std::map<std::string, std::function<double(Arguments)>>& plans() {
  static const std::map<std::string, std::function<double(Arguments)>> all{
      {"accumulate", and_again({0})},
      {"adam_step", and_again({0, 2, 3})},
      {"attention_backward", attention_backward_bytes},
      {"causal_conv1d_backward", and_again({7, 8})},
      {"copy_columns", part_copied},
      {"copy_sequence", part_copied},
      {"embedding_backward", and_again({2})},
      {"layer_norm_backward", and_again({5, 6})},
      {"rms_norm_backward", and_again({5})},
      {"sum_over_batch", and_again({1})},
  };
  return all;
}

}  // namespace

double planned_bytes(const KernelSlot& slot, Arguments arguments) {
  const auto found = plans().find(slot.name());
  return found == plans().end() ? each_once(arguments) : found->second(arguments);
}

void SlotBytes::before(const KernelSlot& slot, Device device, Arguments arguments) {
  planned_ = planned_bytes(slot, arguments);
  runtime_of(device.kind).synchronize(device.index);
  emulator::counts() = {};
}

void SlotBytes::after(const KernelSlot& slot, Device device) {
  runtime_of(device.kind).synchronize(device.index);
  const emulator::Counts& c = emulator::counts();
  const double own = 2.0 * static_cast<double>(c.block_bytes), libraries = static_cast<double>(c.library_bytes);
  Moved& moved = slots_[slot.name()];
  ++moved.calls;
  moved.planned += own + (libraries > 0 ? libraries : planned_);
  moved.measured += static_cast<double>(c.kernel_bytes) + libraries;
}

}  // namespace mblm::testing
