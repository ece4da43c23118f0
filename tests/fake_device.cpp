#include "tests/fake_device.h"

#include <cstdlib>
#include <cstring>

#include "engine/kernel.h"

namespace mblm::testing {
namespace {

class FakeRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override { return {{fake_device, "host memory", std::size_t{1} << 30}}; }
  void* allocate(int, std::size_t bytes) override {
    ++calls.allocations;
    return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  }
  void release(int, void* data) noexcept override { std::free(data); }
  void fill_zero(int, void* data, std::size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void from_host(int, void* to, const void* from, std::size_t bytes) override {
    ++calls.from_host;
    std::memcpy(to, from, bytes);
  }
  void to_host(int, void* to, const void* from, std::size_t bytes) override {
    calls.to_host.push_back(bytes);
    std::memcpy(to, from, bytes);
  }
  void to_host_async(int, Stream, void* pinned, const void* from, std::size_t bytes) override {
    calls.to_host_async.push_back(bytes);
    std::memcpy(pinned, from, bytes);
  }
  void synchronize(int) override { ++calls.synchronizations; }

  RuntimeCalls calls;
};

FakeRuntime& runtime() {
  static FakeRuntime* const fake = new FakeRuntime;  // never destroyed: pools release memory to it at program exit
  return *fake;
}

}  // namespace

}  // namespace mblm::testing

namespace mblm {

class KernelLender {
 public:
  static void lend(KernelSlot& slot, DeviceKind from, DeviceKind to) {
    slot.functions_[static_cast<std::size_t>(to)] = slot.functions_[static_cast<std::size_t>(from)].load();
    slot.dtypes_[static_cast<std::size_t>(to)] = slot.dtypes_[static_cast<std::size_t>(from)].load();
  }
};

}  // namespace mblm

namespace mblm::testing {

void add_fake_device() {
  add_runtime(DeviceKind::Cuda, &runtime());
  for (const KernelSlot* slot : kernel_slots()) KernelLender::lend(const_cast<KernelSlot&>(*slot), DeviceKind::Cpu, DeviceKind::Cuda);
}

RuntimeCalls& runtime_calls() { return runtime().calls; }

}  // namespace mblm::testing
