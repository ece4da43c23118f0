#include "ops/causal_conv1d.h"

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

// Channels that are computed together: their taps, their partial sums and W rows of them fit in the L1 cache.
constexpr std::int64_t block_channels = 256;

template <int first, class T, int... i>
inline Lanes<T> every_second(Lanes<T> a, Lanes<T> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (2 * i + first)...);
}

// out[k * channels + c] = w[c * width + k]. Four taps, the usual width, are separated in registers: for one token this is as much
// work as the convolution.
template <class T>
void transpose_taps(const T* w, std::int64_t channels, std::int64_t width, T* out) {
  constexpr int lanes = lane_count<T>;
  constexpr auto order = std::make_integer_sequence<int, lanes>{};
  std::int64_t c = 0;
  for (; width == 4 && c + lanes <= channels; c += lanes) {
    Lanes<T> w0 = load(w + 4 * c), w1 = load(w + 4 * c + lanes), w2 = load(w + 4 * c + 2 * lanes), w3 = load(w + 4 * c + 3 * lanes);
    const Lanes<T> even0 = every_second<0, T>(w0, w1, order), even1 = every_second<0, T>(w2, w3, order);
    const Lanes<T> odd0 = every_second<1, T>(w0, w1, order), odd1 = every_second<1, T>(w2, w3, order);
    store(out + c, every_second<0, T>(even0, even1, order));
    store(out + channels + c, every_second<0, T>(odd0, odd1, order));
    store(out + 2 * channels + c, every_second<1, T>(even0, even1, order));
    store(out + 3 * channels + c, every_second<1, T>(odd0, odd1, order));
  }
  for (; c < channels; ++c)
    for (std::int64_t k = 0; k < width; ++k) out[k * channels + c] = w[c * width + k];
}

// The inputs, with the weight transposed to rows of taps (W, C), so that vector lanes run across channels.
template <class E>
class Convolution {
 public:
  using T = Real<E>;

  Convolution(const Tensor& input, const Tensor& weight, const Tensor& bias_of, const Tensor& window)
      : tokens(input.size(1)),
        channels(input.size(2)),
        width(weight.size(2)),
        taps_(empty(Shape{width, channels}, dtype_of<T>)),
        zero_(window.defined() ? Tensor{} : zeros(Shape{channels}, input.dtype())),
        x_(data<E>(input)),
        bias_(data<T>(bias_of)),
        window_(data_or_null<E>(window)) {
    transpose_taps(data<T>(weight), channels, width, data<T>(taps_));
  }

  // The input row of token t >= 1 - W of a sequence; before token 0 a row of the window, or zeros.
  const E* row(std::int64_t sequence, std::int64_t t) const {
    if (t >= 0) return x_ + (sequence * tokens + t) * channels;
    return window_ == nullptr ? data<E>(zero_) : window_ + (sequence * (width - 1) + width - 1 + t) * channels;
  }

  const T* tap(std::int64_t k) const { return data<T>(taps_) + k * channels; }

  // sum[i] = conv at token t, channel begin + i, for i < count.
  void at(std::int64_t sequence, std::int64_t t, std::int64_t begin, std::int64_t count, T* sum) const {
    if (width == 4) return at_four_taps(sequence, t, begin, count, sum);
    std::copy_n(bias_ + begin, count, sum);
    for (std::int64_t k = 0; k < width; ++k) {
      const E* in = row(sequence, t - width + 1 + k) + begin;
      const T* w = tap(k) + begin;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) sum[i] += w[i] * read(in[i]);
    }
  }

  const std::int64_t tokens, channels, width;

 private:
  // The usual width: the sum stays in a register.
  void at_four_taps(std::int64_t sequence, std::int64_t t, std::int64_t begin, std::int64_t count, T* sum) const {
    const E *x0 = row(sequence, t - 3) + begin, *x1 = row(sequence, t - 2) + begin, *x2 = row(sequence, t - 1) + begin,
            *x3 = row(sequence, t) + begin;
    const T *w0 = tap(0) + begin, *w1 = tap(1) + begin, *w2 = tap(2) + begin, *w3 = tap(3) + begin, *bias = bias_ + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) sum[i] = bias[i] + w0[i] * read(x0[i]) + w1[i] * read(x1[i]) + w2[i] * read(x2[i]) + w3[i] * read(x3[i]);
  }

  Tensor taps_, zero_;
  const E *x_;
  const T* bias_;
  const E* window_;
};

// A tile is a block of tokens. Each row is read W times, all but once from the cache. Memory bound: 8 bytes per element in
// float32, 4 in bfloat16.
void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor& y, Tensor& last_window) {
  for_floating_type("causal_conv1d_forward", x.dtype(), [&]<class E>() {
    const Convolution<E> conv(x, weight, bias, window);
    const std::int64_t channels = conv.channels;
    E* py = data<E>(y);
    parallel_tiles(x.shape().rows(), rows_per_tile(channels), [&](std::int64_t first, std::int64_t last, std::int64_t) {
      for (std::int64_t row = first; row < last; ++row) {
        for (std::int64_t begin = 0; begin < channels; begin += block_channels) {
          const std::int64_t count = std::min(block_channels, channels - begin);
          Real<E> sum[block_channels];
          conv.at(row / conv.tokens, row % conv.tokens, begin, count, sum);
          E* out = py + row * channels + begin;
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i) write(out[i], scalar::silu(sum[i]));
        }
      }
    });
    if (!last_window.defined()) return;
    E* to = data<E>(last_window);
    for (std::int64_t sequence = 0; sequence < x.size(0); ++sequence)
      for (std::int64_t t = conv.tokens - conv.width + 1; t < conv.tokens; ++t, to += channels) std::copy_n(conv.row(sequence, t), channels, to);
  });
}

// Backward of tokens [first, last), counted over all sequences. A tile alone writes the rows of dx of its tokens, and of dwindow of
// the sequences that start in it. It computes the contributions to these rows from its own tokens and from the W - 1 tokens after
// them, whose pre-activations it recomputes. A row of dx in bfloat16 is summed in float32, in a ring of W rows, and rounded when its
// last contribution is added.
template <class E>
class BackwardTile {
 public:
  using T = Real<E>;

  BackwardTile(const Convolution<E>& conv, const E* dy, E* dx, E* dwindow, T* partial, std::int64_t first, std::int64_t last)
      : conv_(conv),
        dy_(dy),
        dx_(dx),
        dwindow_(dwindow),
        partial_(partial),
        first_(first),
        last_(last),
        ring_(in_place ? 0 : static_cast<std::size_t>(conv.width * block_channels)) {}

  void run() {
    const std::int64_t end_of_sequence = ((last_ - 1) / conv_.tokens + 1) * conv_.tokens;
    const std::int64_t end = std::min(last_ + conv_.width - 1, end_of_sequence);
    for (std::int64_t begin = 0; begin < conv_.channels; begin += block_channels) {
      const std::int64_t count = std::min(block_channels, conv_.channels - begin);
      for (std::int64_t row = first_; row < end; ++row) {
        add_token(row, begin, count);
        if constexpr (!in_place) round_finished_rows(row, begin, count);
      }
    }
  }

 private:
  // silu'(v) = s (1 + v (1 - s)), s = sigmoid(v). Partial sums: W rows of dweight, then one row of dbias.
  void add_token(std::int64_t row, std::int64_t begin, std::int64_t count) {
    const std::int64_t sequence = row / conv_.tokens, t = row % conv_.tokens;
    T d[block_channels];
    conv_.at(sequence, t, begin, count, d);
    const E* dy = dy_ + row * conv_.channels + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      const T s = scalar::sigmoid(d[i]);
      d[i] = read(dy[i]) * s * (1 + d[i] * (1 - s));
    }
    for (std::int64_t k = conv_.width - 1; k >= 0; --k) {
      if (row < last_) add_product(d, conv_.row(sequence, t - conv_.width + 1 + k) + begin, count, partial_ + k * conv_.channels + begin);
      add_to_input(d, sequence, t - conv_.width + 1 + k, k, begin, count);
    }
    if (row >= last_) return;
    T* dbias = partial_ + conv_.width * conv_.channels + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) dbias[i] += d[i];
  }

  // Adds to the gradient of token t if this tile owns it. The first contribution comes from the last tap, at token t itself; it
  // overwrites dx.
  void add_to_input(const T* d, std::int64_t sequence, std::int64_t t, std::int64_t k, std::int64_t begin, std::int64_t count) {
    const std::int64_t row = sequence * conv_.tokens + std::max<std::int64_t>(t, 0);
    if (row < first_ || row >= last_ || (t < 0 && dwindow_ == nullptr)) return;
    const T* w = conv_.tap(k) + begin;
    if (t < 0) {
      add_product(d, w, count, dwindow_ + (sequence * (conv_.width - 1) + conv_.width - 1 + t) * conv_.channels + begin);
    } else if (k < conv_.width - 1) {
      add_product(d, w, count, dx_row(row, begin));
    } else {
      T* dx = dx_row(row, begin);
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) dx[i] = w[i] * d[i];
    }
  }

  template <class B, class Sum>
  static void add_product(const T* a, const B* b, std::int64_t count, Sum* sum) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) write(sum[i], read(sum[i]) + a[i] * read(b[i]));
  }

  // The sums of a row of dx for the channels from `begin` on.
  T* dx_row(std::int64_t row, std::int64_t begin) {
    if constexpr (in_place)
      return dx_ + row * conv_.channels + begin;
    else
      return ring_.data() + row % conv_.width * block_channels;
  }

  // Rounds the rows of dx whose last contribution came from this token: the row W - 1 tokens before it, and at the end of a sequence
  // also the rows after that one.
  void round_finished_rows(std::int64_t token, std::int64_t begin, std::int64_t count) {
    const std::int64_t first_of_sequence = token / conv_.tokens * conv_.tokens, oldest = token - conv_.width + 1;
    const std::int64_t newest = token + 1 == first_of_sequence + conv_.tokens ? token : oldest;
    for (std::int64_t row = std::max({oldest, first_of_sequence, first_}); row <= std::min(newest, last_ - 1); ++row) {
      const T* sums = dx_row(row, begin);
      E* to = dx_ + row * conv_.channels + begin;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) write(to[i], sums[i]);
    }
  }

  static constexpr bool in_place = std::is_same_v<E, T>;
  const Convolution<E>& conv_;
  const E* dy_;
  E *dx_, *dwindow_;
  T* partial_;
  std::int64_t first_, last_;
  std::vector<T> ring_;
};

// Adds the gradient of the last window to the inputs that it copies.
template <class E>
void add_last_window(const Convolution<E>& conv, std::int64_t sequences, const E* dlast, E* dx, E* dwindow) {
  const std::int64_t before = conv.width - 1;
  for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
    for (std::int64_t t = conv.tokens - before; t < conv.tokens; ++t, dlast += conv.channels) {
      if (t < 0 && dwindow == nullptr) continue;
      E* to = t < 0 ? dwindow + (sequence * before + before + t) * conv.channels : dx + (sequence * conv.tokens + t) * conv.channels;
#pragma omp simd
      for (std::int64_t i = 0; i < conv.channels; ++i) write(to[i], read(to[i]) + read(dlast[i]));
    }
  }
}

// out = beta out + sums (W, C), transposed to (C, W).
template <class T>
void add_transposed(const T* sums, std::int64_t channels, std::int64_t width, T* out, float beta) {
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t k = 0; k < width; ++k) out[c * width + k] = (beta == 0 ? T(0) : out[c * width + k]) + sums[k * channels + c];
}

// Tiles have at least 64 tokens, so that few tokens are computed by two tiles. There are at most 64 tiles, because each has its own
// partial sums of dweight and dbias. Memory bound: 12 bytes per element in float32, 6 in bfloat16.
void backward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, const Tensor& dy, const Tensor& dlast_window,
              CausalConv1dGradients& out) {
  for_floating_type("causal_conv1d_backward", x.dtype(), [&]<class E>() {
    using T = Real<E>;
    const Convolution<E> conv(x, weight, bias, window);
    const std::int64_t rows = x.size(0) * conv.tokens, channels = conv.channels, width = conv.width;
    const std::int64_t tile_rows = std::max<std::int64_t>(64, tile_count(rows, 64));
    Tensor partials = zeros(Shape{tile_count(rows, tile_rows), (width + 1) * channels}, dtype_of<T>),
           sums = empty(Shape{width + 1, channels}, dtype_of<T>);
    const E* pdy = data<E>(dy);
    E *pdx = data<E>(out.dx), *pdwindow = data_or_null<E>(out.dwindow);
    T *pp = data<T>(partials), *ps = data<T>(sums);
    if (pdwindow != nullptr) std::fill_n(pdwindow, out.dwindow.numel(), E{});
    parallel_tiles(rows, tile_rows, [&](std::int64_t first, std::int64_t last, std::int64_t tile) {
      BackwardTile<E>(conv, pdy, pdx, pdwindow, pp + tile * (width + 1) * channels, first, last).run();
    });
    if (dlast_window.defined()) add_last_window(conv, x.size(0), data<E>(dlast_window), pdx, pdwindow);
    add_partials(partials, ps, 0.0f);
    add_transposed(ps, channels, width, data<T>(out.dweight), out.beta_weight);
    add_transposed(ps + width * channels, channels, 1, data<T>(out.dbias), out.beta_bias);
  });
}

const bool added = add_cpu_floating_kernel(causal_conv1d_forward, forward) && add_cpu_floating_kernel(causal_conv1d_backward, backward);

}  // namespace
}  // namespace mblm
