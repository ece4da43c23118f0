// Times every op on the test cases marked as benchmarks: forward, and forward with backward. Also reports GB/s (each input and
// output moved once), GFLOP/s (0 if the case does not give its operations), and the share of the bound: the larger of bytes /
// measured copy rate and operations / measured matrix product rate, divided by the time.
//   build/bench/op_bench --benchmark_filter=rms_norm --benchmark_repetitions=5
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>

#include "engine/device.h"
#include "engine/parallel.h"
#include "ops/matmul.h"
#include "tests/op_case.h"

namespace {

using namespace mblm;
using mblm::testing::OpCase;

double best_seconds(int repeats, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Peak rates of this machine, measured before the benchmarks.
struct Peaks {
  double flops = 0, bytes = 0;  // per second
};

Peaks measure_peaks() {
  const NoGradScope no_grad;
  constexpr std::int64_t size = 1536, elements = 1 << 26;
  Tensor a = empty(Shape{size, size}, DType::Float32), b = empty(Shape{size, size}, DType::Float32);
  for (Tensor* x : {&a, &b})
    for (std::int64_t i = 0; i < x->numel(); ++i) x->host_data<float>()[i] = static_cast<float>((i * 7919) % 1000) * 1e-3f - 0.5f;
  Peaks peaks;
  peaks.flops = 2.0 * size * size * size / best_seconds(8, [&] { benchmark::DoNotOptimize(matmul(a, b).host_bytes().data()); });
  const Tensor from = zeros(Shape{elements}, DType::Float32);
  Tensor to = zeros(Shape{elements}, DType::Float32);
  peaks.bytes = 8.0 * elements / best_seconds(5, [&] {
    parallel_tiles(elements, 1 << 20, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      std::memcpy(to.host_data<float>() + begin, from.host_data<float>() + begin, static_cast<std::size_t>(end - begin) * 4);
    });
  });
  return peaks;
}

double bytes_of(const std::vector<Tensor>& tensors) {
  double bytes = 0;
  for (const Tensor& x : tensors) bytes += static_cast<double>(x.bytes());
  return bytes;
}

void report(benchmark::State& state, double flops, double bytes, const Peaks& peaks) {
  using benchmark::Counter;
  const double rounds = static_cast<double>(state.iterations());
  state.counters["GB/s"] = Counter(bytes * rounds * 1e-9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(flops * rounds * 1e-9, Counter::kIsRate);
  state.counters["of_bound"] = Counter(std::max(flops / peaks.flops, bytes / peaks.bytes) * rounds, Counter::kIsRate);
}

void run_forward(benchmark::State& state, const OpCase& c, const Peaks& peaks) {
  const NoGradScope no_grad;
  const std::vector<Tensor> inputs = testing::device_inputs(c, DType::Float32);
  std::vector<Tensor> outputs;
  for (auto _ : state) outputs = c.run(inputs);
  report(state, c.flops, bytes_of(inputs) + bytes_of(outputs), peaks);
}

// The gradients take twice the operations of the forward pass. Inputs, outputs and their gradients are moved once more.
void run_backward(benchmark::State& state, const OpCase& c, const Peaks& peaks) {
  std::vector<Tensor> inputs = testing::device_inputs(c, DType::Float32), leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    inputs[i] = inputs[i].as_leaf();
    leaves.push_back(inputs[i]);
  }
  std::vector<Tensor> outputs, douts;
  for (auto _ : state) {
    outputs = c.run(inputs);
    if (douts.empty())
      for (const Tensor& y : outputs) douts.push_back(clone(y));
    benchmark::DoNotOptimize(backward(outputs, douts, leaves));
  }
  report(state, 3 * c.flops, 3 * (bytes_of(inputs) + bytes_of(outputs)), peaks);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const Peaks peaks = measure_peaks();
  for (const DeviceInfo& info : available_devices()) benchmark::AddCustomContext(concat_text(info.device), info.description);
  benchmark::AddCustomContext("threads", std::to_string(thread_count()));
  benchmark::AddCustomContext("matrix product, GFLOP/s", std::to_string(peaks.flops * 1e-9));
  benchmark::AddCustomContext("copy, GB/s", std::to_string(peaks.bytes * 1e-9));
  for (const testing::OpCases& list : testing::all_op_cases()) {
    for (const OpCase& c : list.cases()) {
      if (!c.benchmark) continue;
      const std::string name = concat_text(list.op, "/", c.name);
      benchmark::RegisterBenchmark((name + "/forward").c_str(), [c, peaks](benchmark::State& state) { run_forward(state, c, peaks); })->UseRealTime();
      if (c.gradient)
        benchmark::RegisterBenchmark((name + "/forward+backward").c_str(), [c, peaks](benchmark::State& state) { run_backward(state, c, peaks); })->UseRealTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
