// The runtime of CUDA devices, on the emulated one: streams, events, staging, graphs, errors.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <thread>

#include "cuda/launch.h"
#include "engine/async_copy.h"
#include "engine/device_graph.h"
#include "engine/kernel.h"
#include "engine/kernel_data.h"
#include "engine/pool.h"
#include "engine/staged_collective.h"
#include "ops/scale.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/test_device.h"
#include "tests/error_text.h"
#include "tests/thread_workers.h"

namespace mblm::testing {
namespace {

constinit Kernel<void(const Tensor& x, const Tensor& other, Tensor& y)> refused{"refused_forward"};

void refuse(const Tensor&, const Tensor&, Tensor&) { throw DeviceError("cuda: invalid argument"); }
const bool added = refused.add(DeviceKind::Cuda, {DType::Float32}, refuse);

Runtime& runtime() { return runtime_of(test_device().kind); }

// Adds one to each element, in the order of the stream.
void increment(const Tensor& x) {
  emulator::enqueue(cuda::compute_stream(), [p = static_cast<float*>(raw(x)), n = x.numel()] {
    for (std::int64_t i = 0; i < n; ++i) p[i] += 1;
  });
}

std::vector<float> iota(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

}  // namespace

TEST_CASE("the device reports its name, capability and memory") {
  const std::vector<DeviceInfo> all = runtime().devices();
  REQUIRE(!all.empty());
  CHECK(all[0].device == test_device());
  CHECK(all[0].description.find("capability 9.0") != std::string::npos);
  CHECK(all[0].memory_bytes > 0);
  const DeviceMemory memory = runtime().memory(0);
  CHECK(memory.free_bytes > 0);
  CHECK(memory.free_bytes <= memory.total_bytes);
}

TEST_CASE("one thread uses several devices") {
  const auto count = static_cast<int>(runtime().devices().size());
  std::vector<Tensor> tensors, results;
  for (int i = 0; i < count; ++i) tensors.push_back(from_values<float>(Shape{2}, std::vector<float>{1, static_cast<float>(i)}, {DeviceKind::Cuda, i}));
  for (const Tensor& x : tensors) results.push_back(scale(x, 3));
  for (int i = 0; i < count; ++i) CHECK(results[static_cast<std::size_t>(i)].to_vector<float>() == std::vector<float>{3, static_cast<float>(3 * i)});
  std::thread([&] { CHECK(to_device(results.back(), test_device()).to_vector<float>()[0] == 3); }).join();
}

TEST_CASE("memory of the host can be reused as soon as from_host returns, and the host does not wait") {
  std::vector<float> values = iota(1000);
  Tensor x = empty(Shape{1000}, DType::Float32, test_device());
  x.from_host(values.data());  // allocates the pinned buffers
  runtime().synchronize(0);
  emulator::counts() = {};
  std::vector<Tensor> all;
  for (int i = 0; i < 8; ++i) {
    all.push_back(empty(Shape{1000}, DType::Float32, test_device()));
    values[0] = static_cast<float>(i);
    all.back().from_host(values.data());
  }
  CHECK(emulator::counts().waits == 0);
  CHECK(emulator::counts().event_waits == 0);
  for (int i = 0; i < 8; ++i) CHECK(all[static_cast<std::size_t>(i)].to_vector<float>()[0] == static_cast<float>(i));
}

TEST_CASE("large copies from the host pass through the ring of buffers") {
  const std::vector<float> values = iota(std::size_t{5} << 20);  // 20 MiB, 20 pieces
  const Tensor x = from_values(Shape{std::int64_t{5} << 20}, values, test_device());
  CHECK(x.to_vector<float>() == values);
}

TEST_CASE("an asynchronous copy holds the values of the time when it was started") {
  const Tensor x = zeros(Shape{2}, DType::Float32, test_device());
  AsyncCopy copy(test_device(), 8);
  increment(x);
  copy.start(x);
  increment(x);
  CHECK(copy.value<std::array<float, 2>>() == std::array<float, 2>{1, 1});
  CHECK(x.to_vector<float>() == std::vector<float>{2, 2});
}

TEST_CASE("streams run in any order except where events order them") {
  const Tensor x = zeros(Shape{1}, DType::Float32, test_device()), y = zeros(Shape{1}, DType::Float32, test_device());
  auto* pinned = static_cast<float*>(runtime().allocate_pinned(4));
  *pinned = 5;
  runtime().wait_event(0, Stream::Copy, runtime().record_event(0, Stream::Compute));
  runtime().from_host_async(0, Stream::Copy, raw(x), pinned, 4);
  const Event copied = runtime().record_event(0, Stream::Copy);
  runtime().wait_event(0, Stream::Compute, copied);
  Tensor to = y;
  copy_into(to, x);
  CHECK(y.item() == 5);
  runtime().synchronize_event(0, copied);
  runtime().release_pinned(pinned);
}

TEST_CASE("events whose place in the ring was reused have passed") {
  const Tensor x = zeros(Shape{1}, DType::Float32, test_device());
  increment(x);
  const Event early = runtime().record_event(0, Stream::Compute);
  for (int i = 0; i < 3000; ++i) runtime().record_event(0, Stream::Compute);
  runtime().wait_event(0, Stream::Copy, early);
  runtime().synchronize_event(0, early);
  runtime().synchronize_event(0, 0);
  CHECK(x.item() == 1);
}

TEST_CASE("a graph runs its work at each launch and not at the capture, with memory of its own") {
  const auto pool = std::make_shared<MemoryPool>(test_device(), MemoryPool::Keep::All);
  const Tensor x = zeros(Shape{3}, DType::Float32, test_device());
  Tensor y;
  const DeviceGraph graph(pool, [&] {
    increment(x);
    Tensor scratch = clone(x);  // is released and reused within the graph
    y = clone(scratch);
    scratch = {};
    scratch = zeros(Shape{3}, DType::Float32, test_device());
  });
  CHECK(x.to_vector<float>() == std::vector<float>(3, 0));
  CHECK(pool->statistics().held_bytes >= 512);
  for (float n = 1; n < 4; ++n) {
    graph.launch();
    const Tensor other = zeros(Shape{3}, DType::Float32, test_device());
    CHECK(y.to_vector<float>() == std::vector<float>(3, n));
  }
}

TEST_CASE("work of other threads is not captured") {
  const auto pool = std::make_shared<MemoryPool>(test_device(), MemoryPool::Keep::All);
  const Tensor x = zeros(Shape{1}, DType::Float32, test_device());
  std::vector<float> seen;
  const DeviceGraph graph(pool, [&] {
    increment(x);
    std::thread([&] {
      const Tensor other = from_values<float>(Shape{1}, std::vector<float>{7}, test_device());
      increment(other);
      seen = other.to_vector<float>();
    }).join();
  });
  CHECK(seen == std::vector<float>{8});
  CHECK(x.item() == 0);
}

TEST_CASE("work that reads or passes values cannot be captured, and leaves the device usable") {
  const auto pool = std::make_shared<MemoryPool>(test_device(), MemoryPool::Keep::All);
  const Tensor x = zeros(Shape{1}, DType::Float32, test_device());
  const auto captured = [&](const std::function<void()>& work) {
    return error_text<DeviceError>([&] {
      const DeviceGraph graph(pool, [&] {
        increment(x);
        work();
      });
    });
  };
  CHECK(captured([&] { x.item(); }) == "cuda: a copy to the host is not possible while work is captured as a graph");
  CHECK(captured([&] { from_values<float>(Shape{1}, std::vector<float>{1}, test_device()); }) ==
        "cuda: a copy from the host is not possible while work is captured as a graph");
  CHECK(captured([&] { runtime().synchronize(0); }) == "cuda: waiting for the device is not possible while work is captured as a graph");
  CHECK(captured([&] { DeviceGraph(pool, [] {}); }) == "cuda: a nested capture is not possible while work is captured as a graph");
  CHECK(x.item() == 0);
  const DeviceGraph graph(pool, [&] { increment(x); });
  graph.launch();
  CHECK(x.item() == 1);
}

TEST_CASE("an error of a kernel names the slot and the tensors") {
  const Tensor x = zeros(Shape{2, 3}, DType::Float32, test_device());
  Tensor y = zeros(Shape{4}, DType::BFloat16, test_device());
  CHECK(error_text<DeviceError>([&] { refused(x, {}, y); }) ==
        "refused_forward: cuda: invalid argument; arguments: float32 (2, 3), undefined, bfloat16 (4)");
}

TEST_CASE("running out of memory is reported with sizes and remedies") {
  const Tensor x = zeros(Shape{1000}, DType::Float32, test_device());
  const std::string text = error_text<MemoryError>([] { empty(Shape{std::int64_t{1} << 40}, DType::Float32, test_device()); });
  CHECK(text.starts_with("out of memory on cuda:0: requested 4398046511104 bytes, "));
  for (const char* part : {" are in use", "; the device has ", " free; ", "smaller batch", "train_checkpoint_chunks", "bfloat16"}) CHECK(text.find(part) != std::string::npos);
  CHECK(zeros(Shape{1000}, DType::Float32, test_device()).to_vector<float>()[5] == 0);
}

TEST_CASE("tensors of a GPU are summed and broadcast piece by piece") {
  const std::size_t n = 1001;
  const std::vector<std::string> errors = run_workers(3, [&](Communicator& communicator) {
    for (const std::size_t piece : {std::size_t{4}, std::size_t{400}, std::size_t{4000}, std::size_t{1} << 20}) {
      StagedCollective staged(communicator, piece);
      std::vector<float> values = iota(n), expected(n);
      for (float& value : values) value *= static_cast<float>(communicator.rank() + 1);
      for (std::size_t i = 0; i < n; ++i) expected[i] = static_cast<float>(i) * 6;
      Tensor x = from_values(Shape{static_cast<std::int64_t>(n)}, values, test_device());
      staged.sum(x);
      require(x.to_vector<float>() == expected, "sum of pieces of ", piece);
      Tensor y = from_values<std::int64_t>(Shape{2}, std::vector<std::int64_t>{communicator.rank() + 5, 2}, test_device());
      staged.broadcast(y);
      require(y.to_vector<std::int64_t>() == std::vector<std::int64_t>{5, 2}, "broadcast");
    }
  });
  for (const std::string& error : errors) CHECK(error == "");
}

}  // namespace mblm::testing
