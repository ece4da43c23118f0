#include "ops/causal_conv1d.h"

#include "cuda/partials.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

// The inputs. Rows before token 0 of a sequence come from the window, or are zero.
template <class T>
struct Convolution {
  const T *x, *window;
  const float *weight, *bias;
  std::int64_t sequences, tokens, channels, width;

  // Address of channel c of token t >= 1 - W; null for a zero.
  __device__ const T* at(std::int64_t sequence, std::int64_t t, std::int64_t c) const {
    if (t >= 0) return x + (sequence * tokens + t) * channels + c;
    return window == nullptr ? nullptr : window + (sequence * (width - 1) + width - 1 + t) * channels + c;
  }
  __device__ float value(std::int64_t sequence, std::int64_t t, std::int64_t c) const {
    const T* p = at(sequence, t, c);
    return p == nullptr ? 0.0f : to_float(*p);
  }
  __device__ float sum(std::int64_t sequence, std::int64_t t, std::int64_t c) const {
    float v = bias[c];
    for (std::int64_t w = 0; w < width; ++w) v += weight[c * width + w] * value(sequence, t - width + 1 + w, c);
    return v;
  }
};

// Bfloat16 results do not need the accurate exponential, which would cost more than the memory accesses.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return __fdividef(1.0f, 1.0f + __expf(-x));
  else
    return scalar::sigmoid(x);
}

// The gradient of the convolution's result v.
template <class T>
__device__ __forceinline__ float slope(float v) {
  return scalar::silu_slope(v, sigmoid<T>(v));
}

// ---- four taps, the usual width: a thread has N neighbouring channels and walks over tiles of 16 tokens. Its weights, the three rows
// before a batch of four tokens and the batch are in registers; the loads of a batch are issued together.

constexpr int taps = 4, batch = 4, tile_tokens = 16;

template <int N>
struct Filter {
  float weight[N][taps], bias[N];
};
template <int N, class T>
__device__ __forceinline__ void read_filter(Filter<N>& f, const Convolution<T>& in, std::int64_t c) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
#pragma unroll
    for (int w = 0; w < taps; ++w) f.weight[k][w] = in.weight[(c + k) * taps + w];
    f.bias[k] = in.bias[c + k];
  }
}
template <int N, class T>
__device__ __forceinline__ void read_row(float (&row)[N], const T* p) {
  if (p != nullptr) {
    read_pack<N>(row, p);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) row[k] = 0;
  }
}
// The sum of tap w times rows[j + w], per channel.
template <int N>
__device__ __forceinline__ float convolve(const Filter<N>& f, const float (&rows)[taps - 1 + batch][N], int j, int k) {
  float v = f.bias[k];
#pragma unroll
  for (int w = 0; w < taps; ++w) v += f.weight[k][w] * rows[j + w][k];
  return v;
}
template <int N>
__device__ __forceinline__ void keep_last_rows(float (&rows)[taps - 1 + batch][N]) {
#pragma unroll
  for (int w = 0; w < taps - 1; ++w) {
#pragma unroll
    for (int k = 0; k < N; ++k) rows[w][k] = rows[batch + w][k];
  }
}

constexpr int threads = 128;

// Threads of a block have neighbouring packs of channels. Memory bound: x and y once, and 3 of 19 rows of long sequences again from
// the cache. 16-byte accesses.
template <class T, int N>
__global__ void __launch_bounds__(threads) convolve_tiles(Convolution<T> in, T* y, std::int64_t tiles, std::int64_t tiles_per_thread) {
  const std::int64_t index = std::int64_t{blockIdx.x} * threads + threadIdx.x, packs = in.channels / N, c = index % packs * N;
  const std::int64_t units = in.sequences * tiles, first = index / packs * tiles_per_thread;
  if (first >= units) return;
  Filter<N> f;
  read_filter(f, in, c);
  for (std::int64_t unit = first; unit < std::min(units, first + tiles_per_thread); ++unit) {
    const std::int64_t sequence = unit / tiles, begin = unit % tiles * tile_tokens, end = std::min(in.tokens, begin + tile_tokens);
    float rows[taps - 1 + batch][N];
#pragma unroll
    for (int w = 0; w < taps - 1; ++w) read_row(rows[w], in.at(sequence, begin - taps + 1 + w, c));
    for (std::int64_t t = begin; t < end; t += batch) {
#pragma unroll
      for (int j = 0; j < batch; ++j) read_row(rows[taps - 1 + j], t + j < end ? in.at(sequence, t + j, c) : nullptr);
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        if (t + j >= end) break;
        float out[N];
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const float v = convolve(f, rows, j, k);
          out[k] = v * sigmoid<T>(v);
        }
        write_pack<N>(y + (sequence * in.tokens + t + j) * in.channels + c, out);
      }
      keep_last_rows(rows);
    }
  }
}

template <class T>
struct Gradients {
  const T *dy, *dlast;        // dlast: gradient of the last window, or null
  T *dx, *dwindow;            // dwindow may be null
  float *dweight, *dbias;     // partial sums: (parts, C 4), (parts, C)

  // Address of the gradient of channel c of token t >= 1 - W; null if nobody needs it.
  __device__ T* at(const Convolution<T>& in, std::int64_t sequence, std::int64_t t, std::int64_t c) const {
    if (t >= 0) return dx + (sequence * in.tokens + t) * in.channels + c;
    return dwindow == nullptr ? nullptr : dwindow + (sequence * (in.width - 1) + in.width - 1 + t) * in.channels + c;
  }
  // The last window is a copy of the last W - 1 rows; null for earlier rows.
  __device__ const T* last(const Convolution<T>& in, std::int64_t sequence, std::int64_t t, std::int64_t c) const {
    const std::int64_t row = t - in.tokens + in.width - 1;
    return dlast == nullptr || row < 0 ? nullptr : dlast + (sequence * (in.width - 1) + row) * in.channels + c;
  }
};

constexpr int block_packs = 32, block_rows = 8;

// N elements in as few registers as possible.
template <class T, int N>
using Words = std::conditional_t<sizeof(T) * N % 4 == 0, Pack<std::uint32_t, sizeof(T) * N / 4>, Pack<T, N>>;
template <class T, int N>
__device__ __forceinline__ void unpack(float (&row)[N], const Words<T, N>& words) {
  Pack<T, N> pack;
  memcpy(static_cast<void*>(&pack), &words, sizeof pack);
#pragma unroll
  for (int k = 0; k < N; ++k) row[k] = to_float(pack.v[k]);
}

template <int N>
struct FilterSums {
  Filter<N> of[block_rows][block_packs];
};

// Block (32, 8): a thread has N channels of some tiles, as above; the 8 rows of the block have other tiles, whose sums for dweight and
// dbias are added in shared memory in order: one part per block. With d_t = dy_t silu'(conv_t), dx_t = sum_w weight_w d_{t + 3 - w}; a
// tile recomputes the three d after its end. Memory bound: x, dy and dx once, 6 of 38 rows of long sequences again from the cache, and
// 20 (N floats) of partial sums per 8 tiles_per_thread tiles. The loads of the next batch are under way while one is computed. N = 2:
// with more channels per thread too few threads would fit the registers to hide the latency; a warp still reads whole lines of 128 bytes.
template <class T, int N>
__global__ void __launch_bounds__(block_packs* block_rows, sizeof(T) == 2 ? 3 : 2)
    convolve_tiles_backward(Convolution<T> in, Gradients<T> out, std::int64_t tiles, std::int64_t tiles_per_thread) {
  FilterSums<N>& shared = shared_memory<FilterSums<N>>();
  const std::int64_t part = blockIdx.x, c = (std::int64_t{blockIdx.y} * block_packs + threadIdx.x) * N, units = in.sequences * tiles;
  const bool works = c < in.channels;
  Filter<N> f, sums;
#pragma unroll
  for (int k = 0; k < N; ++k) {
#pragma unroll
    for (int w = 0; w < taps; ++w) sums.weight[k][w] = 0;
    sums.bias[k] = 0;
  }
  if (works) {
    read_filter(f, in, c);
    const std::int64_t first = (part * block_rows + threadIdx.y) * tiles_per_thread;
    for (std::int64_t unit = first; unit < std::min(units, first + tiles_per_thread); ++unit) {
      const std::int64_t sequence = unit / tiles;
      const int tokens = static_cast<int>(in.tokens), begin = static_cast<int>(unit % tiles) * tile_tokens, end = std::min(tokens, begin + tile_tokens);
      float rows[taps - 1 + batch][N], d[taps - 1 + batch][N];  // d[j + 3] belongs to rows[j + 3]
#pragma unroll
      for (int w = 0; w < taps - 1; ++w) {
        read_row(rows[w], in.at(sequence, begin - taps + 1 + w, c));
#pragma unroll
        for (int k = 0; k < N; ++k) d[w][k] = 0;
      }
      const int stop = end + taps - 1, valid = std::min(stop, tokens);
      const std::int64_t place = sequence * in.tokens * in.channels + c;
      Words<T, N> next_rows[batch], next_dy[batch];
      const auto load = [&](int t) {
#pragma unroll
        for (int j = 0; j < batch; ++j) {
          const std::int64_t at = place + (t + j) * in.channels;
          const bool exists = t + j < valid;
          next_rows[j] = exists ? *reinterpret_cast<const Words<T, N>*>(in.x + at) : Words<T, N>{};
          next_dy[j] = exists ? *reinterpret_cast<const Words<T, N>*>(out.dy + at) : Words<T, N>{};
        }
      };
      load(begin);
      for (int t = begin; t < stop; t += batch) {
#pragma unroll
        for (int j = 0; j < batch; ++j) {
          unpack<T>(rows[taps - 1 + j], next_rows[j]);
          unpack<T>(d[taps - 1 + j], next_dy[j]);
        }
        if (t + batch < stop) load(t + batch);
#pragma unroll
        for (int j = 0; j < batch; ++j) {
          const int target = t + j - taps + 1;
          float dx[N];
          const bool owned = target < end && (target >= begin || begin == 0);
          read_row(dx, owned ? out.last(in, sequence, target, c) : nullptr);
#pragma unroll
          for (int k = 0; k < N; ++k) {
            d[taps - 1 + j][k] *= slope<T>(convolve(f, rows, j, k));
            if (t + j < end) {
#pragma unroll
              for (int w = 0; w < taps; ++w) sums.weight[k][w] += d[taps - 1 + j][k] * rows[j + w][k];
              sums.bias[k] += d[taps - 1 + j][k];
            }
#pragma unroll
            for (int w = 0; w < taps; ++w) dx[k] += f.weight[k][w] * d[taps - 1 + j - w][k];
          }
          T* to = owned ? out.at(in, sequence, target, c) : nullptr;
          if (to != nullptr) write_pack<N>(to, dx);
        }
        keep_last_rows(rows);
        keep_last_rows(d);
      }
    }
  }
  shared.of[threadIdx.y][threadIdx.x] = sums;
  __syncthreads();
  if (threadIdx.y != 0 || !works) return;
#pragma unroll
  for (int k = 0; k < N; ++k) {
#pragma unroll
    for (int w = 0; w < taps; ++w) {
      float sum = sums.weight[k][w];
      for (int row = 1; row < block_rows; ++row) sum += shared.of[row][threadIdx.x].weight[k][w];
      out.dweight[(part * in.channels + c + k) * taps + w] = sum;
    }
    float sum = sums.bias[k];
    for (int row = 1; row < block_rows; ++row) sum += shared.of[row][threadIdx.x].bias[k];
    out.dbias[part * in.channels + c + k] = sum;
  }
}

// ---- any number of taps: a thread computes one element; the gradient d of the convolution's results goes through memory.

constexpr int any_threads = 256;

template <class T>
__global__ void __launch_bounds__(any_threads) convolve_any(Convolution<T> in, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * any_threads + threadIdx.x, row = i / in.channels;
  if (row >= in.sequences * in.tokens) return;
  const float v = in.sum(row / in.tokens, row % in.tokens, i % in.channels);
  y[i] = from_float<T>(v * sigmoid<T>(v));
}

template <class T>
__global__ void __launch_bounds__(any_threads) sum_gradients_any(Convolution<T> in, const T* dy, float* d) {
  const std::int64_t i = std::int64_t{blockIdx.x} * any_threads + threadIdx.x, row = i / in.channels;
  if (row >= in.sequences * in.tokens) return;
  d[i] = to_float(dy[i]) * slope<T>(in.sum(row / in.tokens, row % in.tokens, i % in.channels));
}

// Elements of the window and of x.
template <class T>
__global__ void __launch_bounds__(any_threads) input_gradients_any(Convolution<T> in, Gradients<T> out, const float* d) {
  const std::int64_t i = std::int64_t{blockIdx.x} * any_threads + threadIdx.x, c = i % in.channels, rows = in.tokens + in.width - 1;
  const std::int64_t sequence = i / in.channels / rows, t = i / in.channels % rows - in.width + 1;
  if (sequence >= in.sequences) return;
  T* to = out.at(in, sequence, t, c);
  if (to == nullptr) return;
  const T* last = out.last(in, sequence, t, c);
  float sum = last == nullptr ? 0.0f : to_float(*last);
  for (std::int64_t w = in.width - 1; w >= 0; --w) {
    const std::int64_t from = t + in.width - 1 - w;
    if (from >= 0 && from < in.tokens) sum += in.weight[c * in.width + w] * d[(sequence * in.tokens + from) * in.channels + c];
  }
  *to = from_float<T>(sum);
}

constexpr int rows_per_part = 64;

// A thread sums 64 rows for one channel and one tap (the last: the bias). Blocks: (channels, taps + 1, parts).
template <class T>
__global__ void __launch_bounds__(any_threads) filter_gradients_any(Convolution<T> in, Gradients<T> out, const float* d) {
  const std::int64_t c = std::int64_t{blockIdx.y} * any_threads + threadIdx.x, part = blockIdx.x, w = blockIdx.z;
  if (c >= in.channels) return;
  float sum = 0;
  for (std::int64_t row = part * rows_per_part; row < std::min(in.sequences * in.tokens, (part + 1) * rows_per_part); ++row) {
    const float factor = w == in.width ? 1.0f : in.value(row / in.tokens, row % in.tokens - in.width + 1 + w, c);
    sum += d[row * in.channels + c] * factor;
  }
  if (w == in.width)
    out.dbias[part * in.channels + c] = sum;
  else
    out.dweight[(part * in.channels + c) * in.width + w] = sum;
}

// ---- the last window: the last W - 1 rows of window and x joined, one element per thread

template <class T>
__global__ void __launch_bounds__(any_threads) copy_last_window(Convolution<T> in, T* last) {
  const std::int64_t i = std::int64_t{blockIdx.x} * any_threads + threadIdx.x, row = i / in.channels;
  if (row >= in.sequences * (in.width - 1)) return;
  last[i] = from_float<T>(in.value(row / (in.width - 1), in.tokens - in.width + 1 + row % (in.width - 1), i % in.channels));
}

template <class T>
T* address(const Tensor& x) {
  return static_cast<T*>(raw(x));
}

template <class T>
Convolution<T> inputs(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window) {
  return {data<T>(x), address<const T>(window), data<float>(weight), data<float>(bias), x.size(0), x.size(1), x.size(2), weight.size(2)};
}

// Channels per access if 16 bytes of `N` elements fit the rows and all addresses.
template <class T>
bool packs_fit(int N, std::int64_t channels, std::initializer_list<const Tensor*> tensors) {
  bool fit = channels % N == 0;
  for (const Tensor* x : tensors) fit = fit && is_aligned(raw(*x), sizeof(T) * static_cast<std::size_t>(N));
  return fit;
}

void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, Tensor& y, Tensor& last_window) {
  for_element_type("causal_conv1d_forward", x.dtype(), [&]<class T>() {
    const Convolution<T> in = inputs<T>(x, weight, bias, window);
    constexpr int N = 16 / sizeof(T);
    if (in.width == taps && x.numel() > 0) {
      const bool packs = packs_fit<T>(N, in.channels, {&x, &window, &y});
      // Few tiles: one per thread, for enough threads. Many: up to four, which share the reads of the weights.
      const std::int64_t tiles = divide_up(in.tokens, tile_tokens), columns = in.channels / (packs ? N : 1),
                         tiles_per_thread = std::clamp<std::int64_t>(in.sequences * tiles * columns / (1 << 17), 1, 4),
                         work = divide_up(in.sequences * tiles, tiles_per_thread) * columns;
      if (packs)
        launch<convolve_tiles<T, N>>(blocks_for(work, threads), threads, 0, in, data<T>(y), tiles, tiles_per_thread);
      else
        launch<convolve_tiles<T, 1>>(blocks_for(work, threads), threads, 0, in, data<T>(y), tiles, tiles_per_thread);
    } else {
      launch<convolve_any<T>>(blocks_for(x.numel(), any_threads), any_threads, 0, in, data<T>(y));
    }
    if (last_window.defined()) launch<copy_last_window<T>>(blocks_for(last_window.numel(), any_threads), any_threads, 0, in, data<T>(last_window));
  });
}

void backward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window, const Tensor& dy, const Tensor& dlast_window,
              CausalConv1dGradients& out) {
  for_element_type("causal_conv1d_backward", x.dtype(), [&]<class T>() {
    const Convolution<T> in = inputs<T>(x, weight, bias, window);
    constexpr int N = 2;
    // A sequence without tokens has one tile, which passes on the gradient of the last window.
    const bool four = in.width == taps && in.tokens < (1 << 30);  // the kernel counts tokens in int
    const std::int64_t tiles = std::max<std::int64_t>(1, divide_up(in.tokens, tile_tokens)), units = in.sequences * tiles,
                       tiles_per_thread = std::clamp<std::int64_t>(units / (64 * block_rows), 1, 4),
                       parts = four ? divide_up(units, tiles_per_thread * block_rows) : divide_up(in.sequences * in.tokens, rows_per_part);
    Tensor dweight = empty(Shape{parts, weight.numel()}, DType::Float32, x.device()), dbias = empty(Shape{parts, in.channels}, DType::Float32, x.device());
    const Gradients<T> gradients{data<T>(dy), address<const T>(dlast_window), data<T>(out.dx), address<T>(out.dwindow), data<float>(dweight), data<float>(dbias)};
    const auto grid = [&](std::int64_t columns, std::int64_t per_block, unsigned z) {
      require<ShapeError>(divide_up(columns, per_block) < 65536 && in.width < 65535, "causal_conv1d_silu: too many channels or taps for a GPU");
      return dim3(blocks_for(parts, 1), static_cast<unsigned>(divide_up(columns, per_block)), z);
    };
    if (four && packs_fit<T>(N, in.channels, {&x, &window, &dy, &dlast_window, &out.dx, &out.dwindow})) {
      launch<convolve_tiles_backward<T, N>>(grid(in.channels / N, block_packs, 1), dim3(block_packs, block_rows), sizeof(FilterSums<N>), in, gradients, tiles, tiles_per_thread);
    } else if (four) {
      launch<convolve_tiles_backward<T, 1>>(grid(in.channels, block_packs, 1), dim3(block_packs, block_rows), sizeof(FilterSums<1>), in, gradients, tiles, tiles_per_thread);
    } else {
      Tensor d = empty(x.shape(), DType::Float32, x.device());
      const float* pd = data<float>(d);
      launch<sum_gradients_any<T>>(blocks_for(x.numel(), any_threads), any_threads, 0, in, data<T>(dy), data<float>(d));
      launch<input_gradients_any<T>>(blocks_for(in.sequences * (in.tokens + in.width - 1) * in.channels, any_threads), any_threads, 0, in, gradients, pd);
      launch<filter_gradients_any<T>>(grid(in.channels, any_threads, static_cast<unsigned>(in.width) + 1), any_threads, 0, in, gradients, pd);
    }
    add_partials(dweight, out.dweight, out.beta_weight);
    add_partials(dbias, out.dbias, out.beta_bias);
  });
}

const bool added = add_kernel(causal_conv1d_forward, forward) && add_kernel(causal_conv1d_backward, backward);

}  // namespace
}  // namespace mblm::cuda
