// Chooses the kernel of attention, and small kernels that all of them need.
#include "cuda/attention.h"

#include <cmath>

#include "cuda/sdpa.h"
#include "ops/dropout.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_size;

// A warp per sequence: first_keys[b] = the first key that the mask does not hide, or `keys`. B T bytes read.
__global__ void __launch_bounds__(threads) find_first_keys(const std::uint8_t* key_mask, std::int64_t batch, int keys, int* first_keys) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t b = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;
  if (b >= batch) return;
  int found = keys;
  for (int first = 0; first < keys && found == keys; first += warp_size) {
    const int key = first + lane;
    const unsigned visible = __ballot_sync(all_lanes, key < keys && key_mask[b * keys + key] != 0);
    if (visible != 0) found = first + __ffs(static_cast<int>(visible)) - 1;
  }
  if (lane == 0) first_keys[b] = found;
}

// delta[b, h, i] = sum over channels of dy[b, i, h] y[b, i, h]. A warp per token and head; 2 d elements read, the lanes take packs of N.
template <int N, class T>
__global__ void __launch_bounds__(threads)
    sum_deltas(const T* y, const T* dy, std::int64_t rows, std::int64_t tokens, std::int64_t heads, int width, float* delta) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t index = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;  // (b T + i) H + h
  if (index >= rows * heads) return;
  float sum = 0;
  for (int c = lane * N; c < width; c += warp_size * N) {
    float a[N], b[N];
    read_pack<N>(a, y + index * width + c);
    read_pack<N>(b, dy + index * width + c);
#pragma unroll
    for (int e = 0; e < N; ++e) sum += a[e] * b[e];
  }
  sum = warp_sum(sum);
  const std::int64_t row = index / heads, h = index % heads;
  if (lane == 0) delta[(row / tokens * heads + h) * tokens + row % tokens] = sum;
}

template <class T>
AttentionRows<T> rows_of(T* rows, const Tensor& x) {
  return {rows, x.size(2), x.size(1) * x.size(2)};
}

template <class T>
AttentionInput<T> input_of(const Tensor& qkv, const AttentionOptions& options) {
  const std::int64_t tokens = qkv.size(1), row = qkv.size(2), width = row / (3 * options.heads);
  require<ShapeError>(tokens < largest_grid / 2 && width < largest_grid / 2, "attention: expected fewer tokens and channels on a GPU, got ", qkv.shape());
  AttentionInput<T> in{};
  in.q = data<T>(qkv);
  in.k = in.q + row / 3;
  in.v = in.q + row / 3 * 2;
  in.q_row = in.k_row = row;
  in.q_sequence = in.k_sequence = tokens * row;
  in.batch = qkv.size(0);
  in.heads = options.heads;
  in.queries = in.keys = static_cast<int>(tokens);
  in.width = static_cast<int>(width);
  in.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
  in.causal = options.causal;
  in.packs = static_cast<std::size_t>(width) * sizeof(T) % 16 == 0 && is_aligned(in.q, 16);
  in.seed = options.random.seed;
  in.site = options.random.site;
  in.scalars = static_cast<const StepScalars*>(raw(options.random.scalars));
  in.drop_below = dropout_threshold(options.dropout);
  in.keep_factor = static_cast<float>(1 / (1 - static_cast<double>(options.dropout)));
  in.first_sequence = options.first_sequence;
  return in;
}

// Adds the key mask to `in`; the returned tensor holds what it refers to.
template <class T>
Tensor add_key_mask(AttentionInput<T>& in, const AttentionOptions& options) {
  if (!options.key_mask.defined()) return {};
  Tensor first_keys = empty(Shape{in.batch}, DType::Int32, options.key_mask.device());
  in.key_mask = data<std::uint8_t>(options.key_mask);
  in.first_keys = data<std::int32_t>(first_keys);
  launch<find_first_keys>(blocks_for(in.batch, warps), threads, 0, in.key_mask, in.batch, in.keys, data<std::int32_t>(first_keys));
  return first_keys;
}

bool is_offered_to_cudnn(const Tensor& qkv, const AttentionOptions& options) {
  return !options.key_mask.defined() && options.dropout == 0 && sdpa_takes(qkv, options.heads);
}

void forward(const Tensor& qkv, const AttentionOptions& options, Tensor& y, Tensor& log_sum_exp) {
  if (y.numel() == 0) return;
  if (is_offered_to_cudnn(qkv, options) && sdpa_forward(qkv, options.heads, options.causal, y, log_sum_exp)) return;
  for_element_type("attention_forward", qkv.dtype(), [&]<class T>() {
    AttentionInput<T> in = input_of<T>(qkv, options);
    const Tensor kept = add_key_mask(in, options);
    const AttentionRows<T> rows = rows_of(data<T>(y), y);
    in.packs = in.packs && is_aligned(rows.rows, 16);
    float* lse = data<float>(log_sum_exp);
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (in.width <= widest_tile) {
        if (in.keys <= short_tokens) return attention_forward_short(in, rows, lse);
        if (in.keys <= middle_tokens) return attention_forward_middle(in, rows, lse);
        return attention_forward_long(in, rows, lse);
      }
    }
    attention_forward_plain<T>(in, rows, lse);
  });
}

template <class T>
Tensor deltas(const Tensor& y, const Tensor& dy, std::int64_t heads, const Tensor& like) {
  Tensor delta = empty_like(like);
  const std::int64_t rows = y.size(0) * y.size(1), width = y.size(2) / heads;
  constexpr int N = 16 / sizeof(T);
  const T *py = data<T>(y), *pdy = data<T>(dy);
  const unsigned blocks = blocks_for(rows * heads, warps);
  if (width % N == 0 && is_aligned(py, 16) && is_aligned(pdy, 16))
    launch<sum_deltas<N, T>>(blocks, threads, 0, py, pdy, rows, y.size(1), heads, width, data<float>(delta));
  else
    launch<sum_deltas<1, T>>(blocks, threads, 0, py, pdy, rows, y.size(1), heads, width, data<float>(delta));
  return delta;
}

void backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, const AttentionOptions& options, Tensor& dqkv) {
  if (y.numel() == 0) return;
  if (is_offered_to_cudnn(qkv, options) && sdpa_backward(qkv, y, log_sum_exp, dy, options.heads, options.causal, dqkv)) return;
  for_element_type("attention_backward", qkv.dtype(), [&]<class T>() {
    AttentionInput<T> in = input_of<T>(qkv, options);
    const Tensor kept = add_key_mask(in, options);
    const AttentionRows<const T> dy_rows = rows_of(data<T>(dy), dy);
    T* out = data<T>(dqkv);
    const AttentionGradients<T> gradients{rows_of(out, dqkv), rows_of(out + y.size(2), dqkv), rows_of(out + 2 * y.size(2), dqkv)};
    in.packs = in.packs && is_aligned(dy_rows.rows, 16) && is_aligned(out, 16);
    const float* lse = data<float>(log_sum_exp);
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (in.width <= widest_tile && in.keys <= short_tokens) return attention_backward_short(in, dy_rows, lse, gradients);
      if (in.width <= widest_tile && in.keys <= middle_tokens) return attention_backward_middle(in, dy_rows, lse, gradients);
    }
    const Tensor delta = deltas<T>(y, dy, in.heads, log_sum_exp);
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (in.width <= widest_tile) return attention_backward_long(in, dy_rows, lse, data<float>(delta), gradients);
    }
    attention_backward_plain<T>(in, dy_rows, lse, data<float>(delta), gradients);
  });
}

const bool added = add_kernel(attention_forward, forward) && add_kernel(attention_backward, backward);

}  // namespace
}  // namespace mblm::cuda
