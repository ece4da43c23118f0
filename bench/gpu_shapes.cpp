// Times the operations that decide the published models, on their shapes, on a GPU. Prints one JSON line per operation: milliseconds
// (median of the rounds), floating-point operations and the bytes that must be moved. tools/gpu_shapes.py times PyTorch on the same
// operations under the same names.
//   build/bench/gpu_shapes [--device cuda:N] [--rounds 5] [--quick]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/autograd.h"
#include "engine/device_name.h"
#include "engine/elementwise.h"
#include "ops/adam.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/rms_norm.h"
#include "ops/ssd_scan.h"

namespace {

using namespace mblm;

constexpr DType f32 = DType::Float32, bf16 = DType::BFloat16;

struct Options {
  std::string device = "cuda";
  int rounds = 5;
  bool quick = false;  // small shapes, to try the program on a device without much memory
};

class Bench {
 public:
  Bench(Device device, const Options& options) : device_(device), options_(options) {}

  // Normal values, repeated after 2^20 elements.
  Tensor random(const Shape& shape, DType dtype, double scale = 1) const {
    const std::int64_t n = shape.numel(), period = std::min(std::int64_t{1} << 20, n);
    std::mt19937 source(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(period));
    for (float& v : values) v = normal(source) * static_cast<float>(scale);
    const Tensor x = empty(shape, f32, device_), flat = x.reshape(Shape{n}), first = from_values<float>(Shape{period}, values, device_);
    for (std::int64_t begin = 0; begin < n; begin += period) {
      const std::int64_t end = std::min(begin + period, n);
      Tensor part = flat.slice(begin, end);
      copy_into(part, first.slice(0, end - begin));
    }
    if (dtype == f32) return x;
    Tensor y = empty(shape, dtype, device_);
    convert(x, y);
    return y;
  }

  // Each round submits several calls and waits once. An operation that fails prints its error.
  void time(const std::string& name, double flops, double bytes, const std::function<void()>& work) const {
    try {
      measure(name, flops, bytes, work);
    } catch (const Error& error) {
      std::cout << nlohmann::json{{"name", name}, {"error", error.what()}} << std::endl;
    }
  }
  Device device() const { return device_; }
  std::int64_t size(std::int64_t full) const { return options_.quick ? std::max<std::int64_t>(1, full / 64) : full; }

 private:
  void measure(const std::string& name, double flops, double bytes, const std::function<void()>& work) const {
    work();
    const double once = seconds(1, work);
    const int calls = std::clamp(static_cast<int>(0.03 / once), 1, 50);
    std::vector<double> ms;
    for (int i = 0; i < options_.rounds; ++i) ms.push_back(seconds(calls, work) / calls * 1e3);
    std::sort(ms.begin(), ms.end());
    std::cout << nlohmann::json{{"name", name}, {"ms", ms[ms.size() / 2]}, {"min_ms", ms.front()}, {"max_ms", ms.back()}, {"flops", flops}, {"bytes", bytes}} << std::endl;
  }
  double seconds(int calls, const std::function<void()>& work) const {
    Runtime& runtime = runtime_of(device_.kind);
    runtime.synchronize(device_.index);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) work();
    runtime.synchronize(device_.index);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const Device device_;
  const Options options_;
};

void time_copy(const Bench& bench) {
  const Tensor from = bench.random(Shape{bench.size(std::int64_t{1} << 28)}, f32);
  Tensor to = empty_like(from);
  bench.time("copy", 0, 2.0 * static_cast<double>(from.bytes()), [&] { copy_into(to, from); });
}

void time_product(const Bench& bench, std::int64_t rows, std::int64_t n, std::int64_t k, DType dtype) {
  const NoGradScope no_grad;
  const std::int64_t m = bench.size(rows);
  const Tensor a = bench.random(Shape{m, k}, dtype), b = bench.random(Shape{n, k}, dtype), dy = bench.random(Shape{m, n}, dtype);
  Tensor c = empty(Shape{m, n}, dtype, bench.device()), gradient = zeros(Shape{n, k}, f32, bench.device());
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const double bytes = static_cast<double>(a.bytes() + b.bytes() + c.bytes());
  const std::string shape = concat_text(dtype, " ", rows, " x ", n, " x ", k);
  bench.time("product " + shape, flops, bytes, [&] { matmul_forward(a, b, {}, c, {.transpose_b = true}); });
  bench.time("weight gradient " + shape, flops, bytes, [&] { matmul_forward(dy, a, {}, gradient, {.transpose_a = true, .beta = 1}); });
}

void time_attention(const Bench& bench, std::int64_t batch, std::int64_t length) {
  constexpr std::int64_t heads = 16, width = 64;
  const std::int64_t rows = bench.size(batch);
  const Tensor qkv = bench.random(Shape{rows, length, 3 * heads * width}, bf16);
  AttentionOptions options;
  options.heads = heads;
  Tensor y = empty(Shape{rows, length, heads * width}, bf16, bench.device()), sums = empty(Shape{rows, heads, length}, f32, bench.device());
  Tensor dqkv = empty_like(qkv);
  const Tensor dy = bench.random(y.shape(), bf16);
  const double pairs = static_cast<double>(rows * heads) * static_cast<double>(length) * static_cast<double>(length + 1) / 2;
  const double flops = 4 * pairs * width, bytes = static_cast<double>(qkv.bytes() + y.bytes());
  const std::string shape = concat_text(batch, " x ", heads, " x ", length, " x ", width);
  bench.time("attention forward " + shape, flops, bytes, [&] { attention_forward(qkv, options, y, sums); });
  bench.time("attention backward " + shape, 2.5 * flops, 2 * bytes, [&] { attention_backward(qkv, y, sums, dy, options, dqkv); });
}

void time_ssd(const Bench& bench, std::int64_t batch, std::int64_t length) {
  constexpr std::int64_t heads = 32, width = 64, states = 128;
  const std::int64_t rows = bench.size(batch);
  const auto leaf = [&](const Shape& shape, DType dtype, double scale) { return bench.random(shape, dtype, scale).as_leaf(); };
  Tensor dt = bench.random(Shape{rows, length, heads}, f32, 0.1);
  fill(dt, 0.05);
  const std::vector<Tensor> in{leaf(Shape{rows, length, heads * width}, bf16, 1), dt.as_leaf(), leaf(Shape{heads}, f32, 1),
                               leaf(Shape{rows, length, states}, bf16, 0.3), leaf(Shape{rows, length, states}, bf16, 0.3), leaf(Shape{heads}, f32, 1)};
  const std::string shape = concat_text(batch, " x ", length, " x ", heads, " x ", width, " x ", states);
  const double elements = static_cast<double>(rows * length), bytes = elements * (2.0 * heads * width * 2 + 2.0 * states * 2 + heads * 4);
  const double span = static_cast<double>(std::min<std::int64_t>(length, ssd_chunk));
  const double flops = elements * heads * (span * (width + states / heads) + (length > ssd_chunk ? 4.0 * width * states : 0));
  {
    const NoGradScope no_grad;
    bench.time("ssd forward " + shape, flops, bytes, [&] { ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5]); });
  }
  const Tensor dy = bench.random(in[0].shape(), bf16);
  bench.time("ssd forward + backward " + shape, 3 * flops, 3 * bytes, [&] {
    const Tensor y = ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5]);
    backward(std::span(&y, 1), std::span(&dy, 1), in);
  });
}

void time_rows(const Bench& bench) {
  constexpr std::int64_t width = 1024, classes = 256;
  const std::int64_t rows = bench.size(49152);
  const Tensor x = bench.random(Shape{rows, width}, f32).as_leaf(), weight = bench.random(Shape{width}, f32).as_leaf(), dy = bench.random(Shape{rows, width}, bf16);
  const double elements = static_cast<double>(x.numel());
  {
    const NoGradScope no_grad;
    bench.time("rms norm forward 49152 x 1024", 0, 6 * elements, [&] { rms_norm(x, weight, RmsForm::ClampedL2, 1e-8, bf16); });
  }
  bench.time("rms norm forward + backward 49152 x 1024", 0, 16 * elements, [&] {
    const Tensor y = rms_norm(x, weight, RmsForm::ClampedL2, 1e-8, bf16);
    backward(std::span(&y, 1), std::span(&dy, 1), std::vector<Tensor>{x, weight});
  });
  const Tensor logits = bench.random(Shape{rows, classes}, f32).as_leaf();
  std::vector<std::int64_t> ids(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i * 7919 % classes);
  const Tensor targets = from_values<std::int64_t>(Shape{rows}, ids, bench.device());
  bench.time("cross-entropy forward + backward 49152 x 256", 0, 12.0 * static_cast<double>(logits.numel()), [&] {
    backward(cross_entropy(logits, targets, -100).loss, std::vector<Tensor>{logits});
  });
}

void time_adam(const Bench& bench) {
  const std::int64_t n = bench.size(std::int64_t{361} << 20);
  Tensor values = bench.random(Shape{n}, f32), first = zeros(Shape{n}, f32, bench.device()), second = zeros(Shape{n}, f32, bench.device());
  Tensor copy = empty(Shape{n}, bf16, bench.device()), scalars = make_step_scalars(bench.device(), {.learning_rate = 1e-4, .applies = 1});
  const Tensor gradients = bench.random(Shape{n}, f32, 0.01);
  bench.time("adam 361 M", 0, 30.0 * static_cast<double>(n), [&] { adam_step(values, gradients, first, second, copy, {}, {}, scalars); });
  const Tensor segments = from_values<std::int64_t>(Shape{1, 2}, {0, n}, bench.device());
  bench.time("gradient norm 361 M", 0, 4.0 * static_cast<double>(n), [&] { gradient_norm(gradients, segments, {.clip = 1}, scalars); });
}

void run(const Bench& bench) {
  time_copy(bench);
  time_product(bench, 8192, 8192, 8192, bf16);
  time_product(bench, 4096, 4096, 4096, f32);
  for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{32768, 3072, 1024}, {32768, 4096, 1024}, {32768, 1024, 4096}, {49152, 4384, 1024}, {49152, 1024, 2048}, {49152, 256, 1024}})
    time_product(bench, m, n, k, bf16);
  for (const auto& [b, t] : {std::array<std::int64_t, 2>{4, 8192}, {6, 1024}, {6144, 8}, {6144, 9}, {1024, 64}}) time_attention(bench, b, t);
  for (const auto& [b, t] : {std::array<std::int64_t, 2>{6, 1024}, {6, 8192}, {6144, 8}, {6144, 9}}) time_ssd(bench, b, t);
  time_rows(bench);
  time_adam(bench);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Times the operations that decide the published models");
  app.add_option("--device", o.device);
  app.add_option("--rounds", o.rounds);
  app.add_flag("--quick", o.quick);
  CLI11_PARSE(app, argc, argv);
  try {
    run(Bench(open_device(o.device, [](const std::string& note) { std::cerr << note << '\n'; }), o));
  } catch (const Error& error) {
    std::cerr << "gpu_shapes: " << error.what() << '\n';
    return 1;
  }
}
