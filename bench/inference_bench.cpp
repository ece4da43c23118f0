// Measures the product of inference (ops/linear.h, linear_inference_forward) beside the product of training and the read bandwidth of a
// buffer as large as the weights. The three alternate in each round, and the median of the rounds is printed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

#include "engine/inference.h"
#include "engine/parallel.h"
#include "ops/cast.h"
#include "ops/linear.h"

namespace {

using namespace mblm;

template <class F>
double seconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

Tensor random_tensor(const Shape& shape, DType dtype) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (float& value : values) value = normal(random);
  return cast(from_values<float>(shape, values), dtype);
}

// Reads all bytes with all threads.
std::uint64_t read_all(const Tensor& buffer) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(buffer.host_bytes().data());
  const auto count = static_cast<std::int64_t>(buffer.bytes() / 8);
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(tile_count(count, 8192)));
  parallel_tiles(count, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
    std::uint64_t sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += words[i];
    sums[static_cast<std::size_t>(tile)] = sum;
  });
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all += sum;
  return all;
}

struct Settings {
  std::vector<std::int64_t> rows{1, 8, 64, 512};
  std::int64_t outputs = 4096, depth = 1024, copies = 0;
  int rounds = 15, threads = 0;
  std::string dtype = "float32";
};

void measure(const Settings& s, std::int64_t rows, DType dtype) {
  // Several weights in turn, so that they do not stay in a cache that a model's weights would not fit in.
  std::vector<Tensor> weights;
  for (std::int64_t i = 0; i < s.copies; ++i) weights.push_back(random_tensor(Shape{s.outputs, s.depth}, dtype));
  const Tensor buffer = zeros(Shape{s.copies * s.outputs * s.depth}, dtype), x = random_tensor(Shape{rows, s.depth}, DType::Float32);
  std::vector<double> ours, training, reading;
  volatile std::uint64_t sink = 0;
  const NoGradScope no_grad;
  for (int round = 0; round <= s.rounds; ++round) {
    const double r = seconds([&] { sink = sink + read_all(buffer); });
    const double o = seconds([&] {
      const InferenceScope inference;
      for (const Tensor& weight : weights) linear(x, weight);
    });
    const double t = seconds([&] {
      for (const Tensor& weight : weights) linear(x, weight);
    });
    if (round == 0) continue;  // warms up
    ours.push_back(o), training.push_back(t), reading.push_back(r);
  }
  const auto calls = static_cast<double>(s.copies);
  const double bytes = static_cast<double>(buffer.bytes()), flops = 2.0 * calls * static_cast<double>(rows * s.outputs * s.depth);
  const double o = median(ours), t = median(training), r = median(reading);
  std::printf("M %4lld: %8.1f us, %6.2f GB/s of weights = %3.0f %% of %6.2f GB/s read, %7.1f GFLOP/s; training %8.1f us, %7.1f GFLOP/s, ratio %.2f\n",
              static_cast<long long>(rows), o / calls * 1e6, bytes / o * 1e-9, 100 * r / o, bytes / r * 1e-9, flops / o * 1e-9, t / calls * 1e6,
              flops / t * 1e-9, t / o);
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  CLI::App app{"Measures the linear product of inference."};
  app.add_option("--rows", s.rows, "Numbers of rows of x")->delimiter(',');
  app.add_option("--outputs", s.outputs, "N");
  app.add_option("--depth", s.depth, "K");
  app.add_option("--copies", s.copies, "Weights that are used in turn (default: 256 MB of them)");
  app.add_option("--rounds", s.rounds, "Rounds of which the median is taken");
  app.add_option("--threads", s.threads, "Threads (default: all processors)");
  app.add_option("--dtype", s.dtype, "Weights: float32 or bfloat16")->check(CLI::IsMember({"float32", "bfloat16"}));
  CLI11_PARSE(app, argc, argv);
  if (s.threads > 0) set_thread_count(s.threads);
  const DType dtype = s.dtype == "float32" ? DType::Float32 : DType::BFloat16;
  if (s.copies == 0) s.copies = std::max<std::int64_t>(1, 256'000'000 / (s.outputs * s.depth * static_cast<std::int64_t>(size_of(dtype))));
  std::printf("N %lld, K %lld, %s, %lld weights, %d threads, %d rounds\n", static_cast<long long>(s.outputs), static_cast<long long>(s.depth),
              s.dtype.c_str(), static_cast<long long>(s.copies), thread_count(), s.rounds);
  for (const std::int64_t rows : s.rows) measure(s, rows, dtype);
}
