// The ops within an InferenceScope: the bits of a row or a token are the same alone and in any batch, however the tokens are split into
// calls, for any number of threads, and wherever the row starts in memory.
#include "engine/inference.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <random>

#include "engine/parallel.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/cast.h"
#include "ops/causal_conv1d.h"
#include "ops/columns.h"
#include "ops/divide.h"
#include "ops/embedding.h"
#include "ops/exp.h"
#include "ops/gelu.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/mean.h"
#include "ops/multiply.h"
#include "ops/relu.h"
#include "ops/rms_norm.h"
#include "ops/rotary.h"
#include "ops/selective_scan.h"
#include "ops/sequence.h"
#include "ops/silu.h"
#include "ops/softmax.h"
#include "ops/softplus.h"
#include "ops/ssd_scan.h"
#include "ops/subtract.h"
#include "ops/sum.h"
#include "ops/token_shift.h"
#include "tests/kernel_device.h"
#include "tests/op_case.h"

namespace mblm::testing {
namespace {

constexpr DType f32 = DType::Float32, f64 = DType::Float64, bf16 = DType::BFloat16;

bool on_gpu() { return kernel_device().kind != DeviceKind::Cpu; }
// The GPU has no float64.
std::vector<DType> dtypes() { return on_gpu() ? std::vector{f32, bf16} : std::vector{f32, bf16, f64}; }

class Random {
 public:
  explicit Random(unsigned seed) : random_(seed) {}
  std::int64_t below(std::int64_t n) { return std::uniform_int_distribution<std::int64_t>(0, n - 1)(random_); }
  std::int64_t between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
  Tensor tensor(const Shape& shape, DType dtype) {
    HostArray x(shape);
    std::normal_distribution<double> normal(0.25, 1.0);
    for (double& value : x.v) value = normal(random_);
    const NoGradScope no_grad;
    return cast(from_host(x, dtype == f64 ? f64 : f32, kernel_device()), dtype);
  }

 private:
  std::mt19937 random_;
};

std::vector<std::byte> bytes_of(const Tensor& x) {
  std::vector<std::byte> bytes(x.bytes());
  x.to_host(bytes.data());
  return bytes;
}
bool same_bits(const Tensor& a, const Tensor& b) { return concat_text(a.shape()) == concat_text(b.shape()) && bytes_of(a) == bytes_of(b); }

struct ThreadsScope {
  explicit ThreadsScope(int threads) : before(thread_count()) { set_thread_count(threads); }
  ~ThreadsScope() { set_thread_count(before); }
  int before;
};

// An op on rows: f(x, first) computes the rows x, which are rows [first, ...) of all rows.
using RowOp = std::function<Tensor(const Tensor& x, std::int64_t first)>;

// Compares all rows at once with the rows one by one, and with random runs of rows.
void check_rows(const RowOp& op, const Tensor& x, Random& random) {
  const InferenceScope inference;
  const std::int64_t rows = x.size(0);
  const Tensor whole = op(x, 0);
  for (const int threads : {1, 2, 3}) {
    const ThreadsScope scope(threads);
    for (std::int64_t first = 0; first < rows;) {
      const std::int64_t count = threads == 1 ? 1 : std::min(rows - first, random.between(1, rows));
      CAPTURE(first);
      CAPTURE(count);
      CAPTURE(threads);
      REQUIRE(same_bits(op(x.slice(first, first + count), first), whole.slice(first, first + count)));
      first += count;
    }
  }
}

// An op on sequences: computes the next tokens x (B, T, ...) and updates the state.
struct SequenceOp {
  std::function<std::vector<Tensor>(std::int64_t batch)> start;
  std::function<Tensor(const Tensor& x, std::vector<Tensor>& state, std::int64_t done)> next;
};

Tensor tokens(const Tensor& x, std::int64_t sequence, std::int64_t begin, std::int64_t end) { return slice_sequence(x.slice(sequence, sequence + 1), begin, end); }

// Compares a batch in one call with each sequence alone: token by token, and in random parts.
void check_sequences(const SequenceOp& op, const Tensor& x, Random& random) {
  const InferenceScope inference;
  std::vector<Tensor> last = op.start(x.size(0));
  const Tensor whole = op.next(x, last, 0);
  for (const int threads : {1, 2, 3}) {
    const ThreadsScope scope(threads);
    for (std::int64_t b = 0; b < x.size(0); ++b) {
      std::vector<Tensor> state = op.start(1);
      for (std::int64_t first = 0; first < x.size(1);) {
        const std::int64_t count = threads == 1 ? 1 : std::min(x.size(1) - first, random.between(1, x.size(1)));
        CAPTURE(b);
        CAPTURE(first);
        CAPTURE(count);
        CAPTURE(threads);
        REQUIRE(same_bits(op.next(tokens(x, b, first, first + count), state, first), tokens(whole, b, first, first + count)));
        first += count;
      }
      for (std::size_t i = 0; i < state.size(); ++i) {
        CAPTURE(i);
        REQUIRE(same_bits(state[i], last[i].slice(b, b + 1)));
      }
    }
  }
}

double error(const Tensor& ours, const Tensor& truth) { return relative_error(to_host(ours), to_host(truth)); }

}  // namespace

TEST_CASE("inference: a row of linear has the same bits in any batch, and the value of the formula") {
  Random random(1);
  const NoGradScope no_grad;
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 31, 63, 64, 65, 70, 133}) {
    for (const DType weight_dtype : dtypes()) {
      const DType x_dtype = weight_dtype == f64 ? f64 : random.below(2) == 0 ? f32 : bf16;
      const DType y_dtype = weight_dtype == f64 ? f64 : random.below(2) == 0 ? f32 : bf16;
      const std::int64_t depth = random.below(3) == 0 ? 32 * random.between(1, 9) : random.between(1, 300), outputs = random.between(1, 90);
      const std::string name = concat_text("M=", rows, " K=", depth, " N=", outputs, " x ", x_dtype, " w ", weight_dtype, " y ", y_dtype);
      CAPTURE(name);
      const Tensor x = random.tensor(Shape{rows, depth}, x_dtype), weight = random.tensor(Shape{outputs, depth}, weight_dtype);
      const Tensor bias = random.below(2) == 0 ? Tensor{} : random.tensor(Shape{outputs}, weight_dtype == f64 ? f64 : f32);
      check_rows([&](const Tensor& part, std::int64_t) { return linear(part, weight, bias, y_dtype); }, x, random);
      // The formula, on the CPU in float64.
      const auto wide = [](const Tensor& t) { return t.defined() ? cast(to_device(t, {}), f64) : t; };
      const Tensor truth = linear(wide(weight_dtype == bf16 ? cast(x, bf16) : x), wide(weight), wide(bias));
      const InferenceScope inference;
      CHECK(error(to_device(linear(x, weight, bias, y_dtype), {}), truth) <= (y_dtype == bf16 ? 0x1p-8 : y_dtype == f32 ? 1e-6 : 1e-14));
    }
  }
}

TEST_CASE("inference: an output of linear does not depend on the other outputs") {
  Random random(2);
  const InferenceScope inference;
  for (const DType dtype : {f32, bf16}) {
    const std::int64_t depth = 70, outputs = 61;
    const Tensor x = random.tensor(Shape{6, depth}, f32), weight = random.tensor(Shape{outputs, depth}, dtype);
    const Tensor whole = linear(x, weight);
    for (std::int64_t n = 0; n < outputs; ++n) {
      const std::int64_t one[] = {n, 1, outputs - n - 1};
      CAPTURE(n);
      REQUIRE(same_bits(linear(x, weight.slice(n, n + 1)), split_columns(whole, one)[1]));
    }
  }
}

TEST_CASE("inference: a row of the ops without a state has the same bits in any batch") {
  Random random(3);
  for (const DType dtype : dtypes()) {
    const DType wide = dtype == f64 ? f64 : f32;
    for (const std::int64_t width : {1, 5, 31, 32, 33, 100, 256, 1023}) {
      const std::int64_t rows = random.between(2, 40);
      const std::string name = concat_text("rows=", rows, " D=", width, " ", dtype);
      CAPTURE(name);
      const Tensor x = random.tensor(Shape{rows, width}, dtype), other = random.tensor(Shape{rows, width}, dtype);
      const Tensor gain = random.tensor(Shape{width}, wide), bias = random.tensor(Shape{width}, wide);
      const auto same_rows = [&](std::int64_t first, const Tensor& part) { return other.slice(first, first + part.size(0)); };
      for (const RmsForm form : {RmsForm::ClampedL2, RmsForm::MeanSquare})
        check_rows([&](const Tensor& part, std::int64_t) { return rms_norm(part, gain, form, 1e-6); }, x, random);
      check_rows([&](const Tensor& part, std::int64_t) { return layer_norm(part, gain, bias); }, x, random);
      check_rows([&](const Tensor& part, std::int64_t) { return gelu(part); }, x, random);
      check_rows([&](const Tensor& part, std::int64_t) { return silu(part); }, x, random);
      check_rows([&](const Tensor& part, std::int64_t first) { return silu_gate(part, same_rows(first, part)); }, x, random);
      check_rows([&](const Tensor& part, std::int64_t) { return softplus(part, bias); }, x, random);
      for (const auto op : {relu, exp, softmax}) check_rows([&](const Tensor& part, std::int64_t) { return op(part); }, x, random);
      for (const auto op : {add, subtract, multiply, divide}) {
        check_rows([&](const Tensor& part, std::int64_t first) { return op(part, same_rows(first, part)); }, x, random);
        check_rows([&](const Tensor& part, std::int64_t) { return op(part, bias); }, x, random);
        check_rows([&](const Tensor& part, std::int64_t) { return op(part, mean(part, -1, true)); }, x, random);
      }
      check_rows([&](const Tensor& part, std::int64_t) { return sum(part, 1); }, x, random);
      if (width % 4 == 0)
        check_rows([&](const Tensor& part, std::int64_t) { return sum(part.reshape(Shape{part.size(0), width / 4, 4}), 1); }, x, random);
      const std::int64_t widths[] = {width / 2, width - width / 2};
      check_rows([&](const Tensor& part, std::int64_t) { return split_columns(part, widths)[1]; }, x, random);
      check_rows([&](const Tensor& part, std::int64_t first) { return concat_columns(std::vector<Tensor>{part, same_rows(first, part)}); }, x, random);
      std::vector<std::int64_t> values;
      for (std::int64_t i = 0; i < 3 * rows; ++i) values.push_back(random.below(rows));
      check_rows([&](const Tensor& ids, std::int64_t) { return embedding(ids, x); }, from_values<std::int64_t>(Shape{3 * rows}, values, kernel_device()), random);
    }
  }
}

TEST_CASE("inference: rotary and stage inputs of a token have the same bits in any part of its sequence") {
  Random random(4);
  const Device device = kernel_device();
  for (const DType dtype : dtypes()) {
    for (const std::int64_t width : {2, 6, 16, 40, 64}) {
      const std::int64_t count = random.between(2, 40), heads = random.between(1, 4), batch = 3;
      const std::string name = concat_text("T=", count, " H=", heads, " d=", width, " ", dtype);
      CAPTURE(name);
      const Tensor x = random.tensor(Shape{batch, count, 3 * heads * width}, dtype), frequencies = to_device(rotary_frequencies(width), device);
      const auto no_state = [](std::int64_t) { return std::vector<Tensor>{}; };
      const auto positions = [&](const Tensor& part, std::int64_t done) {
        return from_values<std::int64_t>(Shape{part.size(0)}, std::vector<std::int64_t>(static_cast<std::size_t>(part.size(0)), done), device);
      };
      for (const RotaryPairs pairs : {RotaryPairs::HalfSplit, RotaryPairs::Interleaved}) {
        check_sequences({no_state, [&](const Tensor& part, std::vector<Tensor>&, std::int64_t done) {
                           return rotary(part, frequencies, pairs, 2 * heads, positions(part, done));
                         }}, x, random);
      }
      const std::int64_t columns = 3 * heads * width;
      const Tensor start = random.tensor(Shape{columns}, dtype), table = random.tensor(Shape{count, columns}, dtype);
      check_sequences({no_state, [&](const Tensor& part, std::vector<Tensor>&, std::int64_t done) {
                         return stage_input_at(start, part, table, part, positions(part, done));
                       }}, x, random);
      check_sequences({[&](std::int64_t n) { return std::vector<Tensor>{zeros(Shape{n, columns / 2}, dtype, device)}; },
                       [&](const Tensor& part, std::vector<Tensor>& state, std::int64_t) {
                         Tensor last;
                         const Tensor y = token_shift(part, state[0], &last);
                         state[0] = last;
                         return y;
                       }}, x, random);
    }
  }
}

TEST_CASE("inference: a token of the convolution and the scans has the same bits in any batch and chunk") {
  Random random(5);
  const Device device = kernel_device();
  for (const DType dtype : dtypes()) {
    const DType wide = dtype == f64 ? f64 : f32;
    for (const std::int64_t count : {2, 9, 63, 64, 65, 150}) {
      const std::int64_t batch = 2, heads = random.between(1, 3), width = random.between(1, 20), states = random.below(2) == 0 ? 16 : random.between(1, 40),
                         channels = heads * width, taps = random.below(2) == 0 ? 4 : random.between(1, 5);
      const std::string name = concat_text("T=", count, " H=", heads, " p=", width, " S=", states, " W=", taps, " ", dtype);
      CAPTURE(name);
      const Tensor x = random.tensor(Shape{batch, count, channels + 2 * states + channels}, dtype);
      const Tensor conv_weight = random.tensor(Shape{x.size(2), 1, taps}, wide), conv_bias = random.tensor(Shape{x.size(2)}, wide);
      check_sequences({[&](std::int64_t n) { return std::vector<Tensor>{zeros(Shape{n, taps - 1, x.size(2)}, dtype, device)}; },
                       [&](const Tensor& part, std::vector<Tensor>& state, std::int64_t) {
                         Tensor last;
                         const Tensor y = causal_conv1d_silu(part, conv_weight, conv_bias, state[0], &last);
                         state[0] = last;
                         return y;
                       }}, x, random);
      const Tensor head_bias = random.tensor(Shape{heads}, wide), head_a = random.tensor(Shape{heads}, wide), head_d = random.tensor(Shape{heads}, wide);
      check_sequences({[&](std::int64_t n) { return std::vector<Tensor>{zeros(Shape{n, heads, width, states}, wide, device)}; },
                       [&](const Tensor& part, std::vector<Tensor>& state, std::int64_t) {
                         const std::vector<Tensor> in = split_columns(part, std::vector<std::int64_t>{channels, states, states, heads, channels - heads});
                         Tensor last;
                         const Tensor y = ssd_scan(in[0], softplus(in[3], head_bias), head_a, in[1], in[2], head_d, state[0], &last);
                         state[0] = last;
                         return y;
                       }}, x, random);
      const Tensor bias = random.tensor(Shape{channels}, wide), a_log = random.tensor(Shape{channels, states}, wide), d = random.tensor(Shape{channels}, wide);
      check_sequences({[&](std::int64_t n) { return std::vector<Tensor>{zeros(Shape{n, channels, states}, wide, device)}; },
                       [&](const Tensor& part, std::vector<Tensor>& state, std::int64_t) {
                         const std::vector<Tensor> in = split_columns(part, std::vector<std::int64_t>{channels, states, states, channels});
                         Tensor last;
                         const Tensor y = selective_scan(in[0], softplus(in[3], bias), a_log, in[1], in[2], d, state[0], &last);
                         state[0] = last;
                         return y;
                       }}, x, random);
    }
  }
}

TEST_CASE("inference: the recurrence of Mamba-2 agrees with its chunked form") {
  Random random(6);
  const DType dtype = on_gpu() ? f32 : f64;
  const double bound = on_gpu() ? 2e-6 : 1e-13;
  for (const std::int64_t count : {1, 5, 64, 130}) {
    const std::int64_t batch = 2, heads = 3, width = 12, states = random.below(2) == 0 ? 20 : 260;
    const Device device = kernel_device();
    const Tensor x = random.tensor(Shape{batch, count, heads * width}, dtype), b = random.tensor(Shape{batch, count, states}, dtype),
                 c = random.tensor(Shape{batch, count, states}, dtype), a = random.tensor(Shape{heads}, dtype), d = random.tensor(Shape{heads}, dtype),
                 initial = random.tensor(Shape{batch, heads, width, states}, dtype);
    const NoGradScope no_grad;
    const Tensor dt = softplus(random.tensor(Shape{batch, count, heads}, dtype), zeros(Shape{heads}, dtype, device));
    for (const Tensor& from : {Tensor{}, initial}) {
      Tensor chunked_state, state;
      const Tensor chunked = ssd_scan(x, dt, a, b, c, d, from, &chunked_state);
      const InferenceScope inference;
      const Tensor y = ssd_scan(x, dt, a, b, c, d, from, &state);
      CHECK(error(y, chunked) <= bound);
      CHECK(error(state, chunked_state) <= bound);
      CHECK(same_bits(ssd_scan(x, dt, a, b, c, d, from), y));
    }
  }
}

namespace {

struct Caches {
  std::vector<Tensor> k, v;
  std::vector<std::int64_t> lengths;

  Caches(std::int64_t batch, std::int64_t capacity, std::int64_t width, DType dtype) : lengths(static_cast<std::size_t>(batch), 0) {
    for (std::int64_t b = 0; b < batch; ++b) {
      k.push_back(Random(7).tensor(Shape{capacity + b, width}, dtype));  // rows that are not in use are not read
      v.push_back(Random(8).tensor(Shape{capacity + b, width}, dtype));
    }
  }
  Tensor next(const Tensor& qkv, std::int64_t heads) {
    AttentionOptions options;
    options.heads = heads;
    const Tensor y = attention_cached(qkv, options, {k, v, lengths});
    for (std::int64_t& length : lengths) length += qkv.size(1);
    return y;
  }
};

// Compares sequences in one call with each of them alone, in single tokens (threads = 1) or random parts.
void check_attention(std::int64_t batch, std::int64_t count, std::int64_t heads, std::int64_t width, DType dtype, std::initializer_list<int> all_threads) {
  Random random(static_cast<unsigned>(count));
  const std::string name = concat_text("B=", batch, " T=", count, " H=", heads, " d=", width, " ", dtype);
  CAPTURE(name);
  const InferenceScope inference;
  const Tensor x = random.tensor(Shape{batch, count, 3 * heads * width}, dtype);
  const Tensor whole = Caches(batch, count, heads * width, dtype).next(x, heads);
  for (const int threads : all_threads) {
    const ThreadsScope scope(threads);
    for (std::int64_t b = 0; b < batch; ++b) {
      Caches alone(1, count + 3, heads * width, dtype);
      for (std::int64_t first = 0; first < count;) {
        const std::int64_t part = threads == 1 ? 1 : std::min(count - first, random.between(1, count));
        CAPTURE(first);
        CAPTURE(part);
        CAPTURE(threads);
        REQUIRE(same_bits(alone.next(tokens(x, b, first, first + part), heads), tokens(whole, b, first, first + part)));
        first += part;
      }
    }
  }
}

}  // namespace

TEST_CASE("inference: a token of cached attention has the same bits in any batch and part") {
  for (const DType dtype : dtypes()) {
    for (const std::int64_t count : {1, 2, 9, 33, 64, 65, 130}) check_attention(2, count, 2, 20, dtype, {1, 2, 3});
    check_attention(3, 40, 1, 64, dtype, {1, 2, 3});
    check_attention(1, 70, 3, 7, dtype, {1, 2, 3});
    check_attention(5, 20, 9, 16, dtype, {1, 2, 3});  // many heads
  }
}

// Long enough for several segments of keys; the batch decides whether the segments are units of work.
TEST_CASE("inference: a token of cached attention has the same bits over a long cache") {
  if (on_gpu()) return check_attention(2, 300, 2, 8, f32, {2});  // the emulator is slow, and a GPU splits every 128 keys
  check_attention(2, 8300, 1, 5, f32, {2, 3});
  check_attention(40, 4200, 1, 3, f32, {2});
}

TEST_CASE("inference: a single token over several segments of cached keys matches the formula") {
  const std::int64_t count = on_gpu() ? 500 : 8200, width = 6;
  const DType dtype = on_gpu() ? f32 : f64;
  Random random(9);
  const InferenceScope inference;
  const Tensor x = random.tensor(Shape{1, count, 3 * width}, dtype);
  Caches caches(1, count, width, dtype);
  caches.next(tokens(x, 0, 0, count - 1), 1);
  const Tensor y = caches.next(tokens(x, 0, count - 1, count), 1);
  AttentionOptions options;
  CHECK(error(y, tokens(attention(x, options), 0, count - 1, count)) <= (on_gpu() ? 2e-6 : 1e-12));
}

}  // namespace mblm::testing
