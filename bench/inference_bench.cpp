// Measures what generation is made of: the product of inference (ops/linear.h, linear_inference_forward) beside the product of training and
// the read bandwidth of a buffer as large as the weights, which alternate in each round; cached attention of one token; and the time of
// a call of an op on a tiny tensor. Prints medians of the rounds.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

#include "engine/inference.h"
#include "engine/parallel.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/cast.h"
#include "ops/columns.h"
#include "ops/gelu.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/softplus.h"
#include "ops/ssd_scan.h"
#include "ops/token_shift.h"

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

// One token per sequence that attends to `keys` cached tokens.
void measure_attention(const Settings& s, std::int64_t batch, std::int64_t heads, std::int64_t width, std::int64_t keys, DType dtype) {
  std::vector<Tensor> k, v;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::vector<Tensor>* rows : {&k, &v}) rows->push_back(random_tensor(Shape{keys, heads * width}, dtype));
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), keys - 1);
  const Tensor qkv = random_tensor(Shape{batch, 1, 3 * heads * width}, dtype);
  const Tensor buffer = zeros(Shape{2 * batch * keys * heads * width}, dtype);
  AttentionOptions options;
  options.heads = heads;
  std::vector<double> ours, reading;
  volatile std::uint64_t sink = 0;
  const InferenceScope inference;
  for (int round = 0; round <= s.rounds; ++round) {
    const double r = seconds([&] { sink = sink + read_all(buffer); });
    const double o = seconds([&] { attention_cached(qkv, options, {k, v, lengths}); });
    if (round == 0) continue;
    ours.push_back(o), reading.push_back(r);
  }
  const double o = median(ours), r = median(reading), bytes = static_cast<double>(buffer.bytes());
  std::printf("cached attention, %lld x %lld heads of %lld, %lld keys: %9.1f us, %6.2f GB/s = %3.0f %% of the read bandwidth\n", static_cast<long long>(batch),
              static_cast<long long>(heads), static_cast<long long>(width), static_cast<long long>(keys), o * 1e6, bytes / o * 1e-9, 100 * r / o);
}

// The scan of Mamba-2 token by token, beside its chunked form; heads of 64 channels, 128 states.
void measure_scan(const Settings& s, std::int64_t batch, std::int64_t heads, std::int64_t tokens, DType dtype) {
  const Tensor x = random_tensor(Shape{batch, tokens, heads * 64}, dtype), b = random_tensor(Shape{batch, tokens, 128}, dtype),
               dt = softplus(random_tensor(Shape{batch, tokens, heads}, DType::Float32), zeros(Shape{heads}, DType::Float32)),
               a = random_tensor(Shape{heads}, DType::Float32), initial = zeros(Shape{batch, heads, 64, 128}, DType::Float32);
  std::vector<double> ours, chunked;
  const NoGradScope no_grad;
  for (int round = 0; round <= s.rounds; ++round) {
    Tensor last;
    const double c = seconds([&] { ssd_scan(x, dt, a, b, b, a, initial, &last); });
    const InferenceScope inference;
    const double o = seconds([&] { ssd_scan(x, dt, a, b, b, a, initial, &last); });
    if (round == 0) continue;
    ours.push_back(o), chunked.push_back(c);
  }
  std::printf("ssd_scan, %lld x %lld tokens, %lld heads: %9.1f us, chunked %9.1f us, ratio %.2f\n", static_cast<long long>(batch), static_cast<long long>(tokens),
              static_cast<long long>(heads), median(ours) * 1e6, median(chunked) * 1e6, median(chunked) / median(ours));
}

template <class F>
void measure_call(const Settings& s, const char* name, F&& f) {
  constexpr int calls = 2000;
  std::vector<double> times;
  const InferenceScope inference;
  for (int round = 0; round <= s.rounds; ++round)
    times.push_back(seconds([&] {
      for (int i = 0; i < calls; ++i) f();
    }));
  std::printf("call of %-14s %6.0f ns\n", name, median(times) / calls * 1e9);
}

void measure_calls(const Settings& s) {
  const Tensor x = random_tensor(Shape{1, 1, 16}, DType::Float32), gain = random_tensor(Shape{16}, DType::Float32);
  const Tensor weight = random_tensor(Shape{16, 16}, DType::Float32), previous = random_tensor(Shape{1, 8}, DType::Float32);
  const std::int64_t widths[] = {4, 8, 4};
  measure_call(s, "empty", [&] { empty(Shape{16}, DType::Float32); });
  measure_call(s, "reshape", [&] { x.reshape(Shape{1, 16}); });
  measure_call(s, "add", [&] { add(x, x); });
  measure_call(s, "gelu", [&] { gelu(x); });
  measure_call(s, "rms_norm", [&] { rms_norm(x, gain, RmsForm::MeanSquare, 1e-5); });
  measure_call(s, "linear", [&] { linear(x, weight); });
  measure_call(s, "split_columns", [&] { split_columns(x, widths); });
  measure_call(s, "token_shift", [&] {
    Tensor last;
    token_shift(x, previous, &last);
  });
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  bool calls = false;
  std::int64_t keys = 0, tokens = 0, batch = 1, heads = 8, width = 64;
  CLI::App app{"Measures the linear product of inference, or what an option names in its place."};
  app.add_flag("--calls", calls, "Measure calls of ops on tiny tensors");
  app.add_option("--keys", keys, "Measure cached attention of one token over this number of keys");
  app.add_option("--scan", tokens, "Measure the scan of Mamba-2 over this number of tokens");
  app.add_option("--batch", batch, "Sequences of --keys and --scan");
  app.add_option("--heads", heads, "Heads of --keys and --scan");
  app.add_option("--width", width, "Channels of a head of --keys");
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
  if (calls) {
    measure_calls(s);
    return 0;
  }
  if (keys > 0) {
    measure_attention(s, batch, heads, width, keys, dtype);
    return 0;
  }
  if (tokens > 0) {
    measure_scan(s, batch, heads, tokens, dtype);
    return 0;
  }
  if (s.copies == 0) s.copies = std::max<std::int64_t>(1, 256'000'000 / (s.outputs * s.depth * static_cast<std::int64_t>(size_of(dtype))));
  std::printf("N %lld, K %lld, %s, %lld weights, %d threads, %d rounds\n", static_cast<long long>(s.outputs), static_cast<long long>(s.depth),
              s.dtype.c_str(), static_cast<long long>(s.copies), thread_count(), s.rounds);
  for (const std::int64_t rows : s.rows) measure(s, rows, dtype);
}
