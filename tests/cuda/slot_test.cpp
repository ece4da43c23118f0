// The CUDA backend has a kernel for every op of the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "engine/kernel.h"
#include "tests/kernel_device.h"

namespace mblm::testing {
namespace {

// Slots whose main tensor stays float32 in a bfloat16 model: logits and losses, parameters and their gradients, step scalars.
constexpr std::string_view float32_slots[] = {"adam_step", "argmax_matches_forward", "count_micro_step", "cross_entropy_backward",
                                              "cross_entropy_forward", "gradient_norm", "segment_means"};

}  // namespace

TEST_CASE("a CUDA device has every kernel of the CPU, for float32, and for bfloat16 where a bfloat16 model needs it") {
  kernel_device();  // loads the backend
  for (const KernelSlot* slot : kernel_slots()) {
    const std::string name = slot->name();
    CAPTURE(name);
    if (!slot->has(DeviceKind::Cpu)) continue;
    CHECK(slot->has(DeviceKind::Cuda));
    if (!slot->takes(DeviceKind::Cpu, DType::Float32)) continue;
    CHECK(slot->takes(DeviceKind::Cuda, DType::Float32));
    if (std::find(std::begin(float32_slots), std::end(float32_slots), slot->name()) == std::end(float32_slots))
      CHECK(slot->takes(DeviceKind::Cuda, DType::BFloat16));
  }
}

}  // namespace mblm::testing
