// Kernel slots and devices.
#include "engine/kernel.h"

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "engine/autograd.h"
#include "engine/device_name.h"
#include "engine/pool.h"
#include "tests/error_text.h"

namespace mblm::testing {
namespace {

// A second kind of device for tests, with host memory.
class PretendedRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override { return {{Device{DeviceKind::Cuda, 0}, "pretended", 0}}; }
  void* allocate(int, std::size_t bytes) override { return std::malloc(bytes); }
  void release(int, void* data) noexcept override { std::free(data); }
  void fill_zero(int, void* data, std::size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void from_host(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void to_host(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
};

// Provides a cuda device during its lifetime: a pretended one if no real one is loaded.
class CudaForTests {
 public:
  CudaForTests() : pretended_(!has_runtime(DeviceKind::Cuda)) {
    if (pretended_) add_runtime(DeviceKind::Cuda, &runtime_);
    scope_.emplace(std::make_shared<MemoryPool>(device));
  }
  ~CudaForTests() {
    scope_.reset();
    if (pretended_) add_runtime(DeviceKind::Cuda, nullptr);
  }
  static constexpr Device device{DeviceKind::Cuda, 0};

 private:
  bool pretended_;
  PretendedRuntime runtime_;
  std::optional<PoolScope> scope_;
};

int calls = 0;
constinit Kernel<void(const Tensor&, const Tensor&, int)> test_filled{"test_filled"};
constinit Kernel<void(const Tensor&, Tensor&)> test_missing{"test_missing"};
const bool added = test_filled.add(DeviceKind::Cpu, {DType::Float32, DType::Int64}, [](const Tensor&, const Tensor&, int n) { calls += n; });

}  // namespace

TEST_CASE("a slot calls the kernel for the device of its tensors") {
  REQUIRE(added);
  const Tensor x = zeros(Shape{1}, DType::Float32);
  calls = 0;
  test_filled(x, x, 3);
  test_filled(Tensor{}, x, 4);  // an undefined tensor has no device
  CHECK(calls == 7);
  CHECK(test_filled.has(DeviceKind::Cpu));
  CHECK_FALSE(test_filled.has(DeviceKind::Cuda));
  CHECK(test_filled.takes(DeviceKind::Cpu, DType::Int64));
  CHECK_FALSE(test_filled.takes(DeviceKind::Cpu, DType::Float64));
  CHECK_FALSE(test_filled.takes(DeviceKind::Cuda, DType::Float32));
}

TEST_CASE("missing kernels and mixed devices are errors") {
  CudaForTests cuda;
  const Tensor here = zeros(Shape{1}, DType::Float32), there = zeros(Shape{1}, DType::Float32, CudaForTests::device);
  Tensor y = zeros(Shape{1}, DType::Float32);
  CHECK(error_text<DeviceError>([&] { test_missing(here, y); }) == "test_missing: no cpu kernel");
  CHECK(error_text<DeviceError>([&] { test_filled(there, there, 1); }) == "test_filled: no cuda kernel");
  CHECK(error_text<DeviceError>([&] { test_filled(here, there, 1); }) == "test_filled: expected all tensors on one device, got cpu and cuda:0");
  CHECK_THROWS_AS(copy_into(y, there), DeviceError);
}

TEST_CASE("tensors are copied to a device and back") {
  CudaForTests cuda;
  const Tensor x = from_values<float>(Shape{3}, {1, 2, 3});
  const Tensor there = to_device(x, CudaForTests::device);
  CHECK(there.device() == CudaForTests::device);
  CHECK(there.to_vector<float>() == x.to_vector<float>());
  CHECK(to_device(there, Device{}).to_vector<float>() == x.to_vector<float>());
  CHECK(to_device(x, Device{}).same_storage(x));
}

TEST_CASE("the list of kernels is sorted by name and contains each slot once") {
  const std::vector<const KernelSlot*> slots = kernel_slots();
  std::vector<std::string> names;
  for (const KernelSlot* slot : slots) names.emplace_back(slot->name());
  CHECK(std::is_sorted(names.begin(), names.end()));
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
  CHECK(std::count(names.begin(), names.end(), "test_filled") == 1);
  CHECK(std::count(names.begin(), names.end(), "accumulate") == 1);
  CHECK(std::count(names.begin(), names.end(), "test_missing") == 0);
}

TEST_CASE("slots are filled while other threads call kernels and list the slots") {
  constexpr std::size_t slots = 64;
  static std::array<std::string, slots> names;  // the list of slots has the addresses of both
  static std::array<std::optional<Kernel<void(const Tensor&, std::atomic<int>*)>>, slots> late;
  for (std::size_t i = 0; i < slots; ++i) late[i].emplace((names[i] = concat_text("test_late_", i)).c_str());
  std::atomic<bool> is_filled = false;
  std::atomic<int> calls = 0, wrong = 0;
  const Tensor x = zeros(Shape{1}, DType::Float32);
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      while (!is_filled) {
        for (const KernelSlot* slot : kernel_slots()) wrong += !slot->has(DeviceKind::Cpu) && !slot->has(DeviceKind::Cuda);
        for (const auto& slot : late)
          if (slot->has(DeviceKind::Cpu)) (*slot)(x, &calls);
      }
    });
  for (auto& slot : late) {
    slot->add(DeviceKind::Cpu, {DType::Float32}, [](const Tensor&, std::atomic<int>* called) { ++*called; });
    std::this_thread::yield();
  }
  is_filled = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
  const std::vector<const KernelSlot*> all = kernel_slots();
  CHECK(std::count_if(all.begin(), all.end(), [](const KernelSlot* slot) { return std::string(slot->name()).starts_with("test_late"); }) == slots);
}

TEST_CASE("the cpu is the first device") {
  const std::vector<DeviceInfo> devices = available_devices();
  REQUIRE_FALSE(devices.empty());
  CHECK(devices[0].device == Device{});
  CHECK(devices[0].memory_bytes > (std::size_t{1} << 20));
  CHECK(concat_text(Device{}) == "cpu");
  CHECK(concat_text(Device{DeviceKind::Cuda, 2}) == "cuda:2");
}

TEST_CASE("device names have four forms") {
  for (const char* wrong : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:1234", "auto "}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_device(wrong));
    CHECK(error_text<DeviceError>([&] { open_device(wrong); }) == concat_text("device: expected auto, cpu, cuda or cuda:N, got ", wrong));
  }
  const auto device = [](const char* name) { return parse_device(name).value().device; };
  CHECK(device("cpu") == Device{});
  CHECK(device("cuda") == Device{DeviceKind::Cuda, 0});
  CHECK(device("cuda:7") == Device{DeviceKind::Cuda, 7});
  CHECK(device("cuda:999") == Device{DeviceKind::Cuda, 999});
  CHECK_FALSE(parse_device("cuda")->or_cpu);
  CHECK(parse_device("auto")->or_cpu);
}

TEST_CASE("processes of a host are dealt over its GPUs unless the name has an index") {
  class Runtimes final : public Runtime {
   public:
    std::vector<DeviceInfo> devices() override { return {{{DeviceKind::Cuda, 0}, "first", 1}, {{DeviceKind::Cuda, 1}, "second", 1}}; }
    void* allocate(int, std::size_t) override { return nullptr; }
    void release(int, void*) noexcept override {}
    void fill_zero(int, void*, std::size_t) override {}
    void copy(int, void*, const void*, std::size_t) override {}
    void from_host(int, void*, const void*, std::size_t) override {}
    void to_host(int, void*, const void*, std::size_t) override {}
  } two;
  load_backends();
  if (has_runtime(DeviceKind::Cuda)) return;  // a machine with a GPU
  add_runtime(DeviceKind::Cuda, &two);
  for (const int rank : {0, 1, 2, 5}) {
    CHECK(open_device("auto", {}, rank).index == rank % 2);
    CHECK(open_device("cuda", {}, rank).index == rank % 2);
    CHECK(open_device("cuda:1", {}, rank).index == 1);
    CHECK(open_device("cpu", {}, rank) == Device{});
  }
  CHECK_THROWS_AS(open_device("cuda:2"), DeviceError);
  add_runtime(DeviceKind::Cuda, nullptr);
}

TEST_CASE("a device is opened by name or reported as missing") {
  CHECK(open_device("cpu") == Device{});
  std::string expected = "--device: expected a device of this machine (see mblm info devices), got cuda:999";
  for (const std::string& reason : load_backends()) expected += "; " + reason;
  CHECK(error_text<DeviceError>([] { open_device("cuda:999"); }) == expected);
  std::vector<std::string> notes;
  const Device automatic = open_device("auto", [&](const std::string& note) { notes.push_back(note); });
  std::vector<std::string> expected_notes;
  for (const std::string& reason : load_backends()) expected_notes.push_back(reason + "; using the CPU");
  CHECK(notes == expected_notes);
  CHECK(automatic == (has_runtime(DeviceKind::Cuda) && available_devices().size() > 1 ? Device{DeviceKind::Cuda, 0} : Device{}));
}

TEST_CASE("a missing backend module is not a failure") {
  Dl_info library{};
  REQUIRE(dladdr(reinterpret_cast<const void*>(&load_backends), &library) != 0);
  const bool has_module = std::filesystem::exists(std::filesystem::path(library.dli_fname).parent_path() / "libmblm_cuda.so");
  std::vector<std::string> failures;
  std::thread([&] { failures = load_backends(); }).join();
  CHECK(load_backends() == failures);
  if (has_module) {
    CHECK(has_runtime(DeviceKind::Cuda) == failures.empty());
  } else {
    CHECK(failures.empty());
    CHECK_FALSE(has_runtime(DeviceKind::Cuda));
    CHECK(error_text<DeviceError>([] { zeros(Shape{1}, DType::Float32, Device{DeviceKind::Cuda, 0}); }) == "device: no cuda backend is loaded");
  }
}

}  // namespace mblm::testing
