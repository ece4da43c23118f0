// Attention of a few new tokens to a cache of keys and values: generation, token by token. Bound by reading the cache once.
#include "cuda/attention.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_size;
constexpr int batch = 4;    // loads in flight per lane
constexpr int split = 128;  // keys per block: one sequence of 8192 tokens with 16 heads has 1024 blocks

constexpr int per_warp = split / warps;

// Copies k and v of the packed rows to rows lengths[b] + i of the caches. A block per row, the threads take packs of N.
template <int N, class T>
__global__ void __launch_bounds__(threads)
    append_rows(const T* qkv, const std::int64_t* lengths, std::int64_t tokens, std::int64_t width, std::int64_t capacity, T* k, T* v) {
  const std::int64_t row = blockIdx.x, b = row / tokens, to = (b * capacity + lengths[b] + row % tokens) * width;
  for (std::int64_t c = std::int64_t{threadIdx.x} * N; c < width; c += threads * N) {
    *reinterpret_cast<Pack<T, N>*>(k + to + c) = *reinterpret_cast<const Pack<T, N>*>(qkv + (3 * row + 1) * width + c);
    *reinterpret_cast<Pack<T, N>*>(v + to + c) = *reinterpret_cast<const Pack<T, N>*>(qkv + (3 * row + 2) * width + c);
  }
}

// Results of the splits: for each (pair, query, split), the largest score, the sum of the weights relative to it, and the weighted sum
// of the values (d).
struct Splits {
  float *largest, *total, *values;
  int count;  // per query: for a full cache
};

struct Shared {
  float weights[split];
  float largest[warps], total[warps];
  float values[warps][warp_size * 8];
};

// Block: one split of the keys of one query and head, and a slab of the channels of y. A row of N L channels is read by L neighbouring
// lanes in packs of N, so a warp reads 32 / L keys at a time; wider heads take several passes for the scores, and a block per slab of
// N L channels for the values. 4 d bytes (bfloat16) and 4 d FLOPs per key; sums are float32, in an order given by the split alone.
template <int N, class T>
__global__ void __launch_bounds__(threads) attend_split(AttentionInput<T> in, Splits splits, int lanes, int slabs) {
  Shared& shared = shared_memory<Shared>();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  std::int64_t index = blockIdx.x;
  const int slab = static_cast<int>(index % slabs);
  index /= slabs;
  const int first = static_cast<int>(index % splits.count) * split;
  index /= splits.count;  // pair and query
  const int query = static_cast<int>(index % in.queries);
  const AttentionHead<T> head(in, index / in.queries);
  const int end = head.causal_end(query), count = smaller(split, end - first);
  if (count <= 0) return;
  const int row = lane / lanes, rows = warp_size / lanes, column = lane % lanes * N;
  const T* q = head.q + query * in.q_row;
  // Scores: keys row, row + rows, ... of the warp's quarter, in batches whose loads overlap.
  for (int i = row; i < per_warp; i += batch * rows) {
    float sums[batch] = {};
    for (int c = column; c < in.width; c += lanes * N) {
      Pack<T, N> keys[batch] = {};
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
        if (in_warp < per_warp && key < count) keys[j] = *reinterpret_cast<const Pack<T, N>*>(head.k + (first + key) * in.k_row + c);
      }
      float a[N];
      read_pack<N>(a, q + c);
#pragma unroll
      for (int j = 0; j < batch; ++j)
#pragma unroll
        for (int e = 0; e < N; ++e) sums[j] += a[e] * to_float(keys[j].v[e]);
    }
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      for (int bits = lanes / 2; bits > 0; bits /= 2) sums[j] += __shfl_xor_sync(all_lanes, sums[j], bits);
      const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
      if (column == 0 && in_warp < per_warp) shared.weights[key] = key < count ? sums[j] * in.scale : -INFINITY;
    }
  }
  __syncthreads();
  // Weights: a key per thread.
  const float score = shared.weights[threadIdx.x], warp_top = warp_max(score);
  if (lane == 0) shared.largest[warp] = warp_top;
  __syncthreads();
  float top = shared.largest[0];
#pragma unroll
  for (int w = 1; w < warps; ++w) top = fmaxf(top, shared.largest[w]);
  const float weight = scalar::exp(score - top), warp_total = warp_sum(weight);
  shared.weights[threadIdx.x] = weight;
  if (lane == 0) shared.total[warp] = warp_total;
  __syncthreads();
  // Values.
  const int c = slab * lanes * N + column;
  float sums[N] = {};
  for (int i = row; i < per_warp; i += batch * rows) {
    Pack<T, N> values[batch] = {};
    float weights[batch] = {};
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
      if (in_warp >= per_warp || key >= count || c >= in.width) continue;
      values[j] = *reinterpret_cast<const Pack<T, N>*>(head.v + (first + key) * in.k_row + c);
      weights[j] = shared.weights[key];
    }
#pragma unroll
    for (int j = 0; j < batch; ++j)
#pragma unroll
      for (int e = 0; e < N; ++e) sums[e] += weights[j] * to_float(values[j].v[e]);
  }
#pragma unroll
  for (int e = 0; e < N; ++e) {
    for (int bits = lanes; bits < warp_size; bits *= 2) sums[e] += __shfl_xor_sync(all_lanes, sums[e], bits);
    if (row == 0) shared.values[warp][column + e] = sums[e];
  }
  __syncthreads();
  const std::int64_t at = index * splits.count + first / split;
  for (int i = static_cast<int>(threadIdx.x); i < lanes * N && slab * lanes * N + i < in.width; i += threads) {
    float sum = shared.values[0][i];
#pragma unroll
    for (int w = 1; w < warps; ++w) sum += shared.values[w][i];
    splits.values[at * in.width + slab * lanes * N + i] = sum;
  }
  if (threadIdx.x != 0 || slab != 0) return;
  float total = shared.total[0];
#pragma unroll
  for (int w = 1; w < warps; ++w) total += shared.total[w];
  splits.largest[at] = top;
  splits.total[at] = total;
}

// Block: one query and head. Joins the splits in order; a thread per channel.
template <class T>
__global__ void __launch_bounds__(threads) join_splits(AttentionInput<T> in, Splits splits, AttentionRows<T> y) {
  const std::int64_t index = blockIdx.x;
  const int query = static_cast<int>(index % in.queries);
  const AttentionHead<T> head(in, index / in.queries);
  const int count = (head.causal_end(query) + split - 1) / split;
  const float *largest = splits.largest + index * splits.count, *totals = splits.total + index * splits.count;
  float top = -INFINITY, total = 0;
  for (int i = 0; i < count; ++i) top = fmaxf(top, largest[i]);
  for (int i = 0; i < count; ++i) total += totals[i] * scalar::exp(largest[i] - top);
  T* out = y.rows + head.b * y.sequence + query * y.row + head.h * in.width;
  for (int c = static_cast<int>(threadIdx.x); c < in.width; c += threads) {
    float sum = 0;
    for (int i = 0; i < count; ++i) sum += splits.values[(index * splits.count + i) * in.width + c] * scalar::exp(largest[i] - top);
    out[c] = from_float<T>(sum / total);
  }
}

template <int N, class T>
void start(const AttentionInput<T>& in, const Splits& splits) {
  int lanes = 1;
  while (lanes < warp_size && lanes * N < in.width) lanes *= 2;
  const std::int64_t slabs = divide_up(in.width, lanes * N);
  launch<attend_split<N, T>>(attention_blocks(in, in.queries * splits.count * slabs), threads, sizeof(Shared), in, splits, lanes, slabs);
}

}  // namespace

template <class T>
void append_to_cache(const Tensor& qkv, const Tensor& lengths, Tensor& k, Tensor& v) {
  const std::int64_t tokens = qkv.size(1), width = k.size(2), capacity = k.size(1);
  constexpr int N = 16 / sizeof(T);
  const T* from = data<T>(qkv);
  const std::int64_t* used = data<std::int64_t>(lengths);
  T *pk = data<T>(k), *pv = data<T>(v);
  const unsigned blocks = blocks_for(qkv.shape().rows(), 1);
  if (width % N == 0 && is_aligned(from, 16) && is_aligned(pk, 16) && is_aligned(pv, 16))
    launch<append_rows<N, T>>(blocks, threads, 0, from, used, tokens, width, capacity, pk, pv);
  else
    launch<append_rows<1, T>>(blocks, threads, 0, from, used, tokens, width, capacity, pk, pv);
}

template <class T>
void attention_forward_split(const AttentionInput<T>& in, std::int64_t capacity, const AttentionRows<T>& y, Device device) {
  Splits splits{};
  splits.count = static_cast<int>(divide_up(capacity, split));
  const Shape shape{in.batch * in.heads * in.queries, splits.count};
  Tensor largest = empty(shape, DType::Float32, device), total = empty(shape, DType::Float32, device),
         values = empty(Shape{shape[0], shape[1], in.width}, DType::Float32, device);
  splits.largest = data<float>(largest);
  splits.total = data<float>(total);
  splits.values = data<float>(values);
  if (in.packs)
    start<16 / sizeof(T)>(in, splits);
  else
    start<1>(in, splits);
  launch<join_splits<T>>(attention_blocks(in, in.queries), threads, 0, in, splits, y);
}

template void append_to_cache<float>(const Tensor&, const Tensor&, Tensor&, Tensor&);
template void append_to_cache<bfloat16>(const Tensor&, const Tensor&, Tensor&, Tensor&);
template void attention_forward_split(const AttentionInput<float>&, std::int64_t, const AttentionRows<float>&, Device);
template void attention_forward_split(const AttentionInput<bfloat16>&, std::int64_t, const AttentionRows<bfloat16>&, Device);

}  // namespace mblm::cuda
