// Time and memory traffic of the kernels, per slot.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/kernel.h"

namespace mblm::bench {

// Adds up the calls of each slot, their time, and the bytes of their tensors: the traffic of a kernel that reads or writes each of its
// tensors once and keeps all else on the chip. The device finishes each kernel before the next one starts.
class SlotTimes final : public KernelObserver {
 public:
  void before(const KernelSlot& slot, Device device, std::span<const Tensor> arguments) override {
    for (const Tensor& x : arguments)
      if (x.defined()) totals_[slot.name()].bytes += static_cast<double>(x.bytes());
    runtime_of(device.kind).synchronize(device.index);
    start_ = std::chrono::steady_clock::now();
  }
  void after(const KernelSlot& slot, Device device) override {
    runtime_of(device.kind).synchronize(device.index);
    Total& total = totals_[slot.name()];
    total.ms += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
    ++total.calls;
  }
  nlohmann::json json() const {
    nlohmann::json all;
    for (const auto& [slot, total] : totals_) all[slot] = {{"calls", total.calls}, {"ms", total.ms}, {"mb", total.bytes * 1e-6}};
    return all;
  }

 private:
  struct Total {
    std::int64_t calls = 0;
    double ms = 0, bytes = 0;
  };
  std::chrono::steady_clock::time_point start_;
  std::map<std::string, Total> totals_;
};

}  // namespace mblm::bench
