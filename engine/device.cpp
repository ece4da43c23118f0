#include "engine/device.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "engine/collective.h"
#include "engine/error.h"
#include "engine/module.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace mblm {
namespace {

constexpr std::size_t host_alignment = 64;            // bytes: a cache line
constexpr std::size_t huge_page = std::size_t{2} << 20;  // bytes, on x86-64 and on AArch64 with pages of 4 KiB

void* allocate_aligned(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  return std::aligned_alloc(host_alignment, (bytes + host_alignment - 1) / host_alignment * host_alignment);
}

// Set during static initialization.
bool (*cpu_multiplies_bfloat16)() = nullptr;

class CpuRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override {
    return {{Device{}, concat_text(std::thread::hardware_concurrency(), " threads"), memory(0).total_bytes}};
  }
  DeviceMemory memory(int) override {
    struct sysinfo system {};
    sysinfo(&system);
    const auto unit = static_cast<std::size_t>(system.mem_unit);
    return {system.totalram * unit, (system.freeram + system.bufferram) * unit};
  }
  void* allocate(int, std::size_t bytes) override { return allocate_aligned(bytes); }
  void release(int, void* data) noexcept override { std::free(data); }
  // Asks for huge pages: a product with one row reads weights faster than the processor finds pages of 4 KiB. It is advice, which the
  // system may ignore.
  void expect_repeated_reads(int, void* data, std::size_t bytes) noexcept override {
    const auto begin = reinterpret_cast<std::uintptr_t>(data), first = (begin + huge_page - 1) / huge_page * huge_page;
    const std::uintptr_t last = (begin + bytes) / huge_page * huge_page;
    if (last > first) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
  void fill_zero(int, void* data, std::size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void from_host(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void to_host(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
#if defined(__SANITIZE_ADDRESS__)
  void mark_block(int, void* data, std::size_t accessible, std::size_t size) noexcept override {
    ASAN_UNPOISON_MEMORY_REGION(data, accessible);
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(data) + accessible, size - accessible);
  }
#endif
  bool multiplies_bfloat16(int) override { return cpu_multiplies_bfloat16 != nullptr && cpu_multiplies_bfloat16(); }
};

// A backend may be loaded while other threads use the devices. The CPU runtime is never destroyed: pools release memory to it when
// the program exits.
std::array<std::atomic<Runtime*>, device_kinds>& runtimes() {
  static std::array<std::atomic<Runtime*>, device_kinds> all{new CpuRuntime, nullptr};
  return all;
}

[[noreturn]] void throw_no_graphs() { throw DeviceError("device: this backend cannot capture graphs"); }

// The reason why an opened module did not add a runtime; empty if it did.
std::string problem_of(void* module) {
  const auto problem = reinterpret_cast<const char* (*)()>(dlsym(module, "mblm_backend_problem"));
  const char* text = problem == nullptr ? nullptr : problem();
  return text == nullptr ? "" : text;
}

}  // namespace

DeviceMemory Runtime::memory(int) { return {}; }
void Runtime::make_current(int) {}
void Runtime::expect_repeated_reads(int, void*, std::size_t) noexcept {}
void Runtime::kernel_submitted(int) {}
void Runtime::mark_block(int, void*, std::size_t, std::size_t) noexcept {}
void Runtime::begin_capture(int) { throw_no_graphs(); }
Graph Runtime::end_capture(int) { throw_no_graphs(); }
void Runtime::abandon_capture(int) noexcept {}
void Runtime::launch_graph(int, Graph) { throw_no_graphs(); }
void Runtime::release_graph(int, Graph) noexcept {}
std::unique_ptr<Collective> Runtime::open_collective(int, int, int, const Exchange&, const std::function<void(const std::string&)>&) { return nullptr; }
void* Runtime::allocate_pinned(std::size_t bytes) { return allocate_aligned(bytes); }
void Runtime::release_pinned(void* data) noexcept { std::free(data); }
void Runtime::from_host_async(int index, Stream, void* to, const void* pinned, std::size_t bytes) { from_host(index, to, pinned, bytes); }
void Runtime::to_host_async(int index, Stream, void* pinned, const void* from, std::size_t bytes) { to_host(index, pinned, from, bytes); }
Event Runtime::record_event(int, Stream) { return 0; }
void Runtime::wait_event(int, Stream, Event) {}
void Runtime::synchronize_event(int, Event) {}
void Runtime::synchronize(int) {}
bool Runtime::multiplies_bfloat16(int) { return true; }

const char* name_of(DeviceKind kind) { return kind == DeviceKind::Cpu ? "cpu" : "cuda"; }

std::ostream& operator<<(std::ostream& out, const Device& device) {
  out << name_of(device.kind);
  return device.kind == DeviceKind::Cpu ? out : out << ':' << device.index;
}

bool has_runtime(DeviceKind kind) { return runtimes()[static_cast<int>(kind)] != nullptr; }

Runtime& runtime_of(DeviceKind kind) {
  Runtime* const runtime = runtimes()[static_cast<int>(kind)].load(std::memory_order_acquire);
  require<DeviceError>(runtime != nullptr, "device: no ", name_of(kind), " backend is loaded");
  return *runtime;
}

void add_runtime(DeviceKind kind, Runtime* runtime) { runtimes()[static_cast<int>(kind)] = runtime; }

bool set_cpu_multiplies_bfloat16(bool (*function)()) {
  cpu_multiplies_bfloat16 = function;
  return true;
}

std::vector<DeviceInfo> available_devices() {
  std::vector<DeviceInfo> all;
  for (const auto& loaded : runtimes()) {
    Runtime* const runtime = loaded.load(std::memory_order_acquire);
    if (runtime == nullptr) continue;
    for (DeviceInfo& info : runtime->devices()) all.push_back(std::move(info));
  }
  return all;
}

std::vector<std::string> load_backends() {
  static std::once_flag once;
  static std::vector<std::string> failures;
  std::call_once(once, [] {
    const std::filesystem::path module = module_path("cuda");
    std::error_code ignored;
    if (!std::filesystem::exists(module, ignored)) return;
    try {
      const std::string problem = problem_of(open_module(module));
      if (!problem.empty()) failures.push_back("cuda: " + problem);
    } catch (const Error& error) {
      failures.push_back(concat_text("cuda: ", error.what()));
    }
  });
  return failures;
}

}  // namespace mblm
