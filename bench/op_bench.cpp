// Times every op on the test cases marked as benchmarks: forward, and forward with backward. Also reports GB/s (each input and
// output moved once), GFLOP/s (0 if the case does not give its operations), and the share of the bound: the larger of bytes /
// measured copy rate and operations / measured matrix product rate, divided by the time. On a GPU, also the cases that are too large
// to test; calls are submitted in batches, and each batch is waited for once, so that short kernels follow one another as in a model.
//   build/bench/op_bench [--device cuda] [--precision bfloat16] --benchmark_filter=rms_norm --benchmark_repetitions=5
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>

#include "engine/device_name.h"
#include "engine/elementwise.h"
#include "engine/parallel.h"
#include "engine/random.h"
#include "ops/matmul.h"
#include "tests/op_case.h"

namespace {

using namespace mblm;
using mblm::testing::OpCase;

// Where and in which element type the ops run.
struct Setting {
  Device device;
  DType dtype = DType::Float32;

  void wait() const { runtime_of(device.kind).synchronize(device.index); }
  int calls_per_wait() const { return device.kind == DeviceKind::Cpu ? 1 : 32; }
};

double best_seconds(const Setting& setting, int repeats, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    setting.wait();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Uniform in [-0.5, 0.5): products of zeros would run faster.
Tensor random_tensor(const Shape& shape, const Setting& setting) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = random_uniform({.seed = 1}, i) - 0.5f;
  const Tensor x = from_values<float>(shape, values, setting.device);
  if (setting.dtype == DType::Float32) return x;
  Tensor y = empty(shape, setting.dtype, setting.device);
  convert(x, y);
  return y;
}

// Peak rates of this machine, measured before the benchmarks: a copy, and a matrix product in the element type of the benchmarks.
struct Peaks {
  double flops = 0, bytes = 0;  // per second
};

void copy_all(const Tensor& from, Tensor& to) {
  if (from.device().kind != DeviceKind::Cpu) return copy_into(to, from);
  parallel_tiles(from.numel(), 1 << 20, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    std::memcpy(to.host_data<float>() + begin, from.host_data<float>() + begin, static_cast<std::size_t>(end - begin) * 4);
  });
}

Peaks measure_peaks(const Setting& setting) {
  const NoGradScope no_grad;
  const bool cpu = setting.device.kind == DeviceKind::Cpu;
  const std::int64_t size = cpu ? 1536 : 8192, elements = std::int64_t{1} << (cpu ? 26 : 28);
  const Tensor a = random_tensor(Shape{size, size}, setting), b = random_tensor(Shape{size, size}, setting);
  Peaks peaks;
  const double product = static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size);
  peaks.flops = 2 * product / best_seconds(setting, 8, [&] { benchmark::DoNotOptimize(matmul(a, b).numel()); });
  const Tensor from = zeros(Shape{elements}, DType::Float32, setting.device);
  Tensor to = zeros(Shape{elements}, DType::Float32, setting.device);
  peaks.bytes = 8 * static_cast<double>(elements) / best_seconds(setting, 5, [&] { copy_all(from, to); });
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

void run_forward(benchmark::State& state, const OpCase& c, const Setting& setting, const Peaks& peaks) {
  const NoGradScope no_grad;
  const std::vector<Tensor> inputs = testing::device_inputs(c, setting.dtype, setting.device);
  std::vector<Tensor> outputs = c.run(inputs);
  setting.wait();
  while (state.KeepRunningBatch(setting.calls_per_wait())) {
    for (int i = 0; i < setting.calls_per_wait(); ++i) outputs = c.run(inputs);
    setting.wait();
  }
  report(state, c.flops, bytes_of(inputs) + bytes_of(outputs), peaks);
}

// The gradients take twice the operations of the forward pass. Inputs, outputs and their gradients are moved once more.
void run_backward(benchmark::State& state, const OpCase& c, const Setting& setting, const Peaks& peaks) {
  std::vector<Tensor> inputs = testing::device_inputs(c, setting.dtype, setting.device), leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (c.inputs[i].ids_below > 0 || !c.inputs[i].gradient) continue;
    inputs[i] = inputs[i].as_leaf();
    leaves.push_back(inputs[i]);
  }
  std::vector<Tensor> outputs = c.run(inputs), douts;
  for (const Tensor& y : outputs) douts.push_back(clone(y));
  setting.wait();
  while (state.KeepRunningBatch(setting.calls_per_wait())) {
    for (int i = 0; i < setting.calls_per_wait(); ++i) {
      outputs = c.run(inputs);
      benchmark::DoNotOptimize(backward(outputs, douts, leaves));
    }
    setting.wait();
  }
  report(state, 3 * c.flops, 3 * (bytes_of(inputs) + bytes_of(outputs)), peaks);
}

// Removes `name VALUE` from the arguments; returns VALUE, or `otherwise` without it.
std::string take_option(int& argc, char** argv, const std::string& name, const std::string& otherwise) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (name != argv[i]) continue;
    const std::string value = argv[i + 1];
    std::copy(argv + i + 2, argv + argc, argv + i);
    argc -= 2;
    return value;
  }
  return otherwise;
}

Setting read_setting(int& argc, char** argv) {
  const Device device = open_device(take_option(argc, argv, "--device", "cpu"));
  const std::string precision = take_option(argc, argv, "--precision", device.kind == DeviceKind::Cpu ? "float32" : "bfloat16");
  require<ValueError>(precision == "float32" || precision == "bfloat16", "--precision: expected float32 or bfloat16, got ", precision);
  return {device, precision == "float32" ? DType::Float32 : DType::BFloat16};
}

void add_benchmarks(const Setting& setting, const Peaks& peaks) {
  for (const testing::OpCases& list : testing::all_op_cases()) {
    for (const OpCase& c : list.cases()) {
      if (!c.benchmark && !(c.gpu_benchmark && setting.device.kind != DeviceKind::Cpu)) continue;
      const std::string name = concat_text(list.op, "/", c.name);
      benchmark::RegisterBenchmark((name + "/forward").c_str(), [=](benchmark::State& state) { run_forward(state, c, setting, peaks); })->UseRealTime();
      if (c.gradient)
        benchmark::RegisterBenchmark((name + "/forward+backward").c_str(), [=](benchmark::State& state) { run_backward(state, c, setting, peaks); })->UseRealTime();
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Setting setting = read_setting(argc, argv);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    const Peaks peaks = measure_peaks(setting);
    for (const DeviceInfo& info : available_devices()) benchmark::AddCustomContext(concat_text(info.device), info.description);
    benchmark::AddCustomContext("device", concat_text(setting.device));
    benchmark::AddCustomContext("precision", std::string(name_of(setting.dtype)));
    benchmark::AddCustomContext("threads", std::to_string(thread_count()));
    benchmark::AddCustomContext("matrix product, GFLOP/s", std::to_string(peaks.flops * 1e-9));
    benchmark::AddCustomContext("copy, GB/s", std::to_string(peaks.bytes * 1e-9));
    add_benchmarks(setting, peaks);
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    std::cerr << "op_bench: " << error.what() << '\n';
    return 1;
  }
}
