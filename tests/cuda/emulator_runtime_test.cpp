// Streams, events, graphs, memory and devices of the emulated runtime: as on a GPU, or stricter.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include "cuda/launch.h"
#include "tests/cuda/planted_kernels.h"

namespace mblm::testing {
namespace {

using cuda::check;
using cuda::compute_stream;

struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { static_cast<void>(cudaStreamDestroy(handle)); }
};
struct Event {
  cudaEvent_t handle = nullptr;
  Event() { check(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming)); }
  ~Event() { static_cast<void>(cudaEventDestroy(handle)); }
};

// A number in device memory, 0 at first.
struct Cell {
  int* p = nullptr;
  Cell() {
    void* memory = nullptr;
    check(cudaMalloc(&memory, sizeof(int)));
    p = static_cast<int*>(memory);
    check(cudaMemsetAsync(p, 0, sizeof(int), compute_stream()));
    check(cudaStreamSynchronize(compute_stream()));
  }
  ~Cell() { static_cast<void>(cudaFree(p)); }
  void set(int byte, cudaStream_t stream) { check(cudaMemsetAsync(p, byte, sizeof(int), stream)); }
  int read(cudaStream_t stream) {
    int value = 0;
    check(cudaMemcpyAsync(&value, p, sizeof value, cudaMemcpyDeviceToHost, stream));
    return value;
  }
};
constexpr int ones = 0x01010101, twos = 0x02020202;

struct Pinned {
  int* p = nullptr;
  Pinned() {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, sizeof(int)));
    p = static_cast<int*>(memory);
  }
  ~Pinned() { static_cast<void>(cudaFreeHost(p)); }
};

struct Graph {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  // Ends the capture of the stream.
  explicit Graph(cudaStream_t stream) {
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphInstantiate(&exec, graph, 0));
  }
  ~Graph() {
    static_cast<void>(cudaGraphExecDestroy(exec));
    static_cast<void>(cudaGraphDestroy(graph));
  }
};

void begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) { check(cudaStreamBeginCapture(stream, mode)); }

// What a call returns during a capture, and what ends the capture then.
template <class F>
std::array<cudaError_t, 2> during_capture(F&& call) {
  Stream stream;
  begin_capture(stream.handle);
  std::array<cudaError_t, 2> status;
  status[0] = call(stream.handle);
  cudaGraph_t graph = nullptr;
  status[1] = cudaStreamEndCapture(stream.handle, &graph);
  static_cast<void>(cudaGraphDestroy(graph));
  return status;
}

// Restores the settings.
struct Settings {
  emulator::Settings before = emulator::settings();
  ~Settings() { emulator::settings() = before; }
};

}  // namespace

TEST_CASE("a stream that does not wait for an event sees old data") {
  Settings restore;
  emulator::settings().order = emulator::Order::Forward;
  Cell x;
  Stream other;
  Event event;
  x.set(1, compute_stream());
  CHECK(x.read(other.handle) == 0);
  check(cudaEventRecord(event.handle, compute_stream()));
  check(cudaStreamWaitEvent(other.handle, event.handle));
  CHECK(x.read(other.handle) == ones);
}

TEST_CASE("in reverse order, a stream that does not wait overwrites too early") {
  Settings restore;
  emulator::settings().order = emulator::Order::Reverse;
  Cell x;
  Stream other;
  Pinned copy;
  check(cudaMemcpyAsync(copy.p, x.p, sizeof(int), cudaMemcpyDeviceToHost, compute_stream()));
  x.set(1, other.handle);
  check(cudaStreamSynchronize(compute_stream()));
  CHECK(*copy.p == ones);
}

TEST_CASE("events pass when their work is done") {
  Cell x;
  Event event;
  CHECK(cudaEventQuery(event.handle) == cudaSuccess);
  x.set(1, compute_stream());
  check(cudaEventRecord(event.handle, compute_stream()));
  emulator::counts() = {};
  const bool waits = cudaEventQuery(event.handle) == cudaErrorNotReady;  // always in forward order
  CHECK((waits || emulator::settings().order != emulator::Order::Forward));
  CHECK(cudaEventQuery(event.handle) == (waits ? cudaErrorNotReady : cudaSuccess));
  check(cudaEventSynchronize(event.handle));
  CHECK(emulator::counts().event_waits == (waits ? 1 : 0));
  CHECK(cudaEventQuery(event.handle) == cudaSuccess);
  check(cudaEventSynchronize(event.handle));
  CHECK(emulator::counts().event_waits == (waits ? 1 : 0));
  x.set(1, compute_stream());
  check(cudaEventRecord(event.handle, compute_stream()));
  int queries = 0;
  while (cudaEventQuery(event.handle) == cudaErrorNotReady && queries < 1000) ++queries;  // a loop that asks ends
  CHECK(queries < 1000);
  CHECK(emulator::counts().waits == 0);
  static_cast<void>(cudaGetLastError());
}

TEST_CASE("pinned memory is read and written when the copy runs") {
  Settings restore;
  emulator::settings().order = emulator::Order::Forward;
  Cell x;
  Pinned from, to;
  *from.p = 1;
  check(cudaMemcpyAsync(x.p, from.p, sizeof(int), cudaMemcpyHostToDevice, compute_stream()));
  *from.p = 2;
  *to.p = 3;
  check(cudaMemcpyAsync(to.p, x.p, sizeof(int), cudaMemcpyDeviceToHost, compute_stream()));
  CHECK(*to.p == 3);
  check(cudaStreamSynchronize(compute_stream()));
  CHECK(*to.p == 2);
}

TEST_CASE("copies from pageable memory can be forbidden, and are illegal in a capture") {
  Settings restore;
  Cell x;
  int value = 5;
  emulator::counts() = {};
  check(cudaMemcpyAsync(x.p, &value, sizeof value, cudaMemcpyHostToDevice, compute_stream()));
  CHECK(emulator::counts().pageable_copies == 1);
  emulator::settings().pageable_copies = false;
  CHECK_THROWS_AS(check(cudaMemcpyAsync(x.p, &value, sizeof value, cudaMemcpyHostToDevice, compute_stream())), emulator::Error);
  const auto status = during_capture([&](cudaStream_t stream) { return cudaMemcpyAsync(x.p, &value, sizeof value, cudaMemcpyHostToDevice, stream); });
  CHECK(status[0] == cudaErrorStreamCaptureUnsupported);
  CHECK(status[1] == cudaErrorStreamCaptureInvalidated);
}

TEST_CASE("a captured graph runs when it is launched, each time with the memory as it is then") {
  Cell x;
  Pinned from, to;
  Stream stream;
  begin_capture(stream.handle);
  check(cudaMemcpyAsync(x.p, from.p, sizeof(int), cudaMemcpyHostToDevice, stream.handle));
  check(cudaMemcpyAsync(to.p, x.p, sizeof(int), cudaMemcpyDeviceToHost, stream.handle));
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(stream.handle, &status));
  CHECK(status == cudaStreamCaptureStatusActive);
  Graph graph(stream.handle);
  check(cudaStreamIsCapturing(stream.handle, &status));
  CHECK(status == cudaStreamCaptureStatusNone);
  CHECK(x.read(stream.handle) == 0);
  emulator::counts() = {};
  for (const int value : {7, 8}) {
    *from.p = value;
    check(cudaGraphLaunch(graph.exec, stream.handle));
    check(cudaStreamSynchronize(stream.handle));
    CHECK(*to.p == value);
  }
  CHECK(emulator::counts().graph_launches == 2);
  CHECK(emulator::counts().copies_to_device == 2);
  CHECK(emulator::counts().copies_to_host == 2);
  CHECK(emulator::counts().bytes_to_host == 2 * sizeof(int));
  CHECK(emulator::counts().waits == 2);
}

TEST_CASE("a capture spreads to other streams by events, which must come back") {
  Cell x, y;
  Stream origin, other;
  Event fork, join;
  const auto capture = [&](bool waits_for_fork_work) {
    begin_capture(origin.handle);
    check(cudaEventRecord(fork.handle, origin.handle));
    check(cudaStreamWaitEvent(other.handle, fork.handle));
    x.set(1, other.handle);
    check(cudaEventRecord(join.handle, other.handle));
    if (waits_for_fork_work) check(cudaStreamWaitEvent(origin.handle, join.handle));
    check(cudaMemcpyAsync(y.p, x.p, sizeof(int), cudaMemcpyDeviceToDevice, origin.handle));
  };
  capture(true);
  {
    Graph graph(origin.handle);
    check(cudaGraphLaunch(graph.exec, origin.handle));
    CHECK(y.read(origin.handle) == ones);
  }
  capture(false);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(origin.handle, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);
}

TEST_CASE("a missing wait inside of a graph shows old data") {
  Cell x, y;
  Stream origin, other;
  Event fork, join;
  begin_capture(origin.handle);
  check(cudaEventRecord(fork.handle, origin.handle));
  check(cudaStreamWaitEvent(other.handle, fork.handle));
  x.set(1, other.handle);
  check(cudaEventRecord(join.handle, other.handle));
  check(cudaMemcpyAsync(y.p, x.p, sizeof(int), cudaMemcpyDeviceToDevice, origin.handle));  // before the wait
  check(cudaStreamWaitEvent(origin.handle, join.handle));
  Graph graph(origin.handle);
  check(cudaGraphLaunch(graph.exec, origin.handle));
  CHECK(y.read(origin.handle) == 0);
}

TEST_CASE("calls that are illegal during a capture spoil it") {
  Cell x;
  Event outside;
  check(cudaEventRecord(outside.handle, compute_stream()));
  const std::array<cudaError_t, 2> spoiled = {cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated};
  void* memory = nullptr;
  CHECK(during_capture([&](cudaStream_t) { return cudaMalloc(&memory, 256); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaMallocHost(&memory, 256); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaFree(x.p); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t stream) { return cudaStreamSynchronize(stream); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaStreamSynchronize(compute_stream()); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaDeviceSynchronize(); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaEventSynchronize(outside.handle); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t) { return cudaEventQuery(outside.handle); }) == spoiled);
  CHECK(during_capture([&](cudaStream_t stream) { return cudaStreamWaitEvent(stream, outside.handle); }) ==
        std::array{cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureInvalidated});
  CHECK(during_capture([&](cudaStream_t stream) {
          Event inside;
          check(cudaEventRecord(inside.handle, stream));
          return cudaEventSynchronize(inside.handle);
        }) == std::array{cudaErrorCapturedEvent, cudaErrorStreamCaptureInvalidated});
  static_cast<void>(cudaGetLastError());
}

TEST_CASE("a relaxed capture, or a relaxed thread, may allocate") {
  void* memory = nullptr;
  Stream stream;
  cudaGraph_t graph = nullptr;
  begin_capture(stream.handle, cudaStreamCaptureModeRelaxed);
  CHECK(cudaMalloc(&memory, 256) == cudaSuccess);
  CHECK(cudaFree(memory) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureInvalidated);
  begin_capture(stream.handle);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  check(cudaThreadExchangeStreamCaptureMode(&mode));
  CHECK(cudaMalloc(&memory, 256) == cudaSuccess);
  check(cudaThreadExchangeStreamCaptureMode(&mode));
  CHECK(mode == cudaStreamCaptureModeRelaxed);
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
  check(cudaGraphDestroy(graph));
  check(cudaFree(memory));
  static_cast<void>(cudaGetLastError());
}

TEST_CASE("an error of a kernel surfaces at the next call that waits, and later work is dropped") {
  if (emulator::settings().order != emulator::Order::Forward) return;
  Cell x;
  std::array<float*, 2> arrays{};
  for (float*& a : arrays) check(cudaMalloc(&a, 1024));
  planted_kernels().at("divergent_barrier")({arrays[0], arrays[1]});
  x.set(1, compute_stream());
  CHECK_THROWS_AS(check(cudaStreamSynchronize(compute_stream())), emulator::Error);
  CHECK(x.read(compute_stream()) == 0);
  // cudaFree waits too, but is called where nothing may be thrown.
  planted_kernels().at("divergent_barrier")({arrays[0], arrays[1]});
  CHECK(cudaFree(arrays[0]) == cudaErrorLaunchFailure);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK_THROWS_AS(check(cudaStreamSynchronize(compute_stream())), emulator::Error);
  check(cudaFree(arrays[1]));
}

TEST_CASE("memory has a limit, and each block is released once") {
  Settings restore;
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total));
  emulator::settings().memory_bytes = total - free + (1 << 20);
  void *a = nullptr, *b = nullptr;
  check(cudaMalloc(&a, 768 << 10));
  check(cudaMemGetInfo(&free, &total));
  CHECK(free == 256 << 10);
  CHECK(cudaMalloc(&b, 512 << 10) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  check(cudaFree(a));
  CHECK(cudaFree(a) == cudaErrorInvalidValue);
  check(cudaMalloc(&b, 512 << 10));
  CHECK(b != a);  // an address is never given out again
  check(cudaFree(b));
  CHECK(cudaMemsetAsync(b, 0, 4, compute_stream()) == cudaErrorInvalidValue);
  static_cast<void>(cudaGetLastError());
}

TEST_CASE("copies must fit into their allocations and name their direction") {
  Cell x;
  std::array<char, 8> host{};
  CHECK(cudaMemcpyAsync(x.p, host.data(), 8, cudaMemcpyHostToDevice, compute_stream()) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(x.p, host.data(), 4, cudaMemcpyDeviceToHost, compute_stream()) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(host.data(), x.p, 4, cudaMemcpyDeviceToDevice, compute_stream()) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(x.p, 0, 5, compute_stream()) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(host.data(), 0, 4, compute_stream()) == cudaErrorInvalidValue);
  static_cast<void>(cudaGetLastError());
}

TEST_CASE("two devices have their own memory and streams") {
  Settings restore;
  emulator::settings().devices = 2;
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  Cell x;
  const cudaStream_t first = compute_stream();
  check(cudaSetDevice(1));
  int current = 0;
  check(cudaGetDevice(&current));
  CHECK(current == 1);
  {
    Cell y;
    CHECK(compute_stream() != first);
    CHECK_THROWS_AS(x.set(1, first), emulator::Error);  // the stream of another device
    x.set(1, compute_stream());                         // memory of another device, by a copy engine
    CHECK(x.read(compute_stream()) == ones);
    y.set(2, compute_stream());
    check(cudaMemcpyPeerAsync(x.p, 0, y.p, 1, sizeof(int), compute_stream()));
    CHECK(x.read(compute_stream()) == twos);
    if (accesses_are_checked()) {  // a kernel cannot access it
      float* mine = nullptr;
      check(cudaMalloc(&mine, 1024));
      planted_kernels().at("uninitialized_global")({reinterpret_cast<float*>(x.p), mine});
      std::string error;
      try {
        check(cudaStreamSynchronize(compute_stream()));
      } catch (const emulator::Error& e) {
        error = e.what();
      }
      CHECK(error.find("access to memory of another device") != std::string::npos);
      check(cudaFree(mine));
    }
  }
  check(cudaSetDevice(0));
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("host code cannot access device memory") {
  Cell x;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    std::signal(SIGSEGV, SIG_DFL);  // without the report of the test framework
    x.set(0, compute_stream());
    check(cudaStreamSynchronize(compute_stream()));
    _exit(*static_cast<volatile int*>(x.p));
  }
  close(ends[1]);
  std::string text(256, '\0');
  const ssize_t n = read(ends[0], text.data(), text.size());
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(text.find("emulator: host code accesses device memory at 0x") == 0);
}
#endif

}  // namespace mblm::testing
