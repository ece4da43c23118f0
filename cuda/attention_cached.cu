// Attention of new tokens to a cache of keys and values: generation, token by token, and prompts, part by part. A query has one order of
// operations, given by the number of keys that it sees. For one token, bound by reading the cache once.
#include <cmath>

#include "cuda/attention.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_size;
constexpr int batch = 4;    // loads in flight per lane
constexpr int split = 128;  // keys per block: one sequence of 8192 tokens with 16 heads has 1024 blocks
constexpr int group = 8;    // queries per block, which read the keys and values of the split from the L1 cache

constexpr int per_warp = split / warps;

// The caches of some sequences, in the arguments of a kernel: 1.5 KiB of the 4 KiB that they may have.
constexpr int most_sequences = 64;
template <class T>
struct Sequences {
  T *k[most_sequences], *v[most_sequences];
  std::int64_t lengths[most_sequences];
};

// The queries [first, first + queries) of `count` sequences with `tokens` queries each.
struct Geometry {
  std::int64_t heads, tokens, first, queries, groups;
  std::int64_t splits;  // per query: for the query with the most keys
  int width, lanes, slabs;
  float scale;
};

// Copies k and v of the packed rows to rows length + i of the caches. A block per row, the threads take packs of N.
template <int N, class T>
__global__ void __launch_bounds__(threads) append_rows(const T* qkv, Sequences<T> to, std::int64_t tokens, std::int64_t width) {
  const std::int64_t row = blockIdx.x, b = row / tokens, begin = (to.lengths[b] + row % tokens) * width;
  T *k = to.k[b] + begin, *v = to.v[b] + begin;
  for (std::int64_t c = std::int64_t{threadIdx.x} * N; c < width; c += threads * N) {
    *reinterpret_cast<Pack<T, N>*>(k + c) = *reinterpret_cast<const Pack<T, N>*>(qkv + (3 * row + 1) * width + c);
    *reinterpret_cast<Pack<T, N>*>(v + c) = *reinterpret_cast<const Pack<T, N>*>(qkv + (3 * row + 2) * width + c);
  }
}

// Results of the splits: for each (sequence, head, query, split), the largest score, the sum of the weights relative to it, and the
// weighted sum of the values (d).
struct Splits {
  float *largest, *total, *values;
};

struct Shared {
  float weights[split];
  float largest[warps], total[warps];
  float values[warps][warp_size * 8];
};

// N elements, which `packs` reads in one access. The elements of a lane do not depend on it.
template <int N, bool packs, class T>
__device__ __forceinline__ Pack<T, N> read_elements(const T* p) {
  if constexpr (packs) {
    return *reinterpret_cast<const Pack<T, N>*>(p);
  } else {
    Pack<T, N> elements;
#pragma unroll
    for (int e = 0; e < N; ++e) elements.v[e] = p[e];
    return elements;
  }
}

// One query over one split of the keys: `count` keys from k and v on, `row` elements apart. A row of N L channels is read by L
// neighbouring lanes, N each, so a warp reads 32 / L keys at a time; wider heads take several passes for the scores, and a block per
// slab of N L channels for the values. Sums are float32, in an order given by the split and the width alone.
template <int N, bool packs, class T>
__device__ __forceinline__ void attend_query(Shared& shared, const Geometry& g, const T* q, const T* k, const T* v, std::int64_t row, int count, int slab,
                                             std::int64_t at, const Splits& splits) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int first = lane / g.lanes, rows = warp_size / g.lanes, column = lane % g.lanes * N;
  // Scores: keys first, first + rows, ... of the warp's quarter, in batches whose loads overlap.
  for (int i = first; i < per_warp; i += batch * rows) {
    float sums[batch] = {};
    for (int c = column; c < g.width; c += g.lanes * N) {
      Pack<T, N> keys[batch] = {};
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
        if (in_warp < per_warp && key < count) keys[j] = read_elements<N, packs>(k + key * row + c);
      }
      const Pack<T, N> a = read_elements<N, packs>(q + c);
#pragma unroll
      for (int j = 0; j < batch; ++j)
#pragma unroll
        for (int e = 0; e < N; ++e) sums[j] = fmaf(to_float(a.v[e]), to_float(keys[j].v[e]), sums[j]);
    }
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      for (int bits = g.lanes / 2; bits > 0; bits /= 2) sums[j] += __shfl_xor_sync(all_lanes, sums[j], bits);
      const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
      if (column == 0 && in_warp < per_warp) shared.weights[key] = key < count ? sums[j] * g.scale : -INFINITY;
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
  const int c = slab * g.lanes * N + column;
  float sums[N] = {};
  for (int i = first; i < per_warp; i += batch * rows) {
    Pack<T, N> values[batch] = {};
    float weights[batch] = {};
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      const int in_warp = i + j * rows, key = warp * per_warp + in_warp;
      if (in_warp >= per_warp || key >= count || c >= g.width) continue;
      values[j] = read_elements<N, packs>(v + key * row + c);
      weights[j] = shared.weights[key];
    }
#pragma unroll
    for (int j = 0; j < batch; ++j)
#pragma unroll
      for (int e = 0; e < N; ++e) sums[e] = fmaf(weights[j], to_float(values[j].v[e]), sums[e]);
  }
#pragma unroll
  for (int e = 0; e < N; ++e) {
    for (int bits = g.lanes; bits < warp_size; bits *= 2) sums[e] += __shfl_xor_sync(all_lanes, sums[e], bits);
    if (first == 0) shared.values[warp][column + e] = sums[e];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < g.lanes * N && slab * g.lanes * N + i < g.width; i += threads) {
    float sum = shared.values[0][i];
#pragma unroll
    for (int w = 1; w < warps; ++w) sum += shared.values[w][i];
    splits.values[at * g.width + slab * g.lanes * N + i] = sum;
  }
  if (threadIdx.x == 0 && slab == 0) {
    float total = shared.total[0];
#pragma unroll
    for (int w = 1; w < warps; ++w) total += shared.total[w];
    splits.largest[at] = top;
    splits.total[at] = total;
  }
  __syncthreads();  // the next query overwrites the shared memory
}

// Block: one split of the keys of one head of one sequence, for a group of queries, and a slab of the channels of y. 4 d bytes (bfloat16)
// per key and block, and 4 d FLOPs per key and query.
template <int N, bool packs, class T>
__global__ void __launch_bounds__(threads) attend_split(const T* qkv, Sequences<T> cache, Geometry g, Splits splits) {
  Shared& shared = shared_memory<Shared>();
  std::int64_t index = blockIdx.x;
  const int slab = static_cast<int>(index % g.slabs);
  index /= g.slabs;
  const std::int64_t part = index % g.splits, first_key = part * split;
  index /= g.splits;
  const std::int64_t in_launch = index % g.groups * group;
  index /= g.groups;
  const std::int64_t b = index / g.heads, h = index % g.heads, row = g.heads * g.width, length = cache.lengths[b];
  const T *k = cache.k[b] + first_key * row + h * g.width, *v = cache.v[b] + first_key * row + h * g.width;
  for (std::int64_t i = in_launch; i < in_launch + group && i < g.queries; ++i) {
    const std::int64_t query = g.first + i, rest = length + query + 1 - first_key;
    if (rest <= 0) continue;
    const T* q = qkv + (b * g.tokens + query) * 3 * row + h * g.width;
    attend_query<N, packs>(shared, g, q, k, v, row, rest < split ? static_cast<int>(rest) : split, slab, (index * g.queries + i) * g.splits + part, splits);
  }
}

// Block: one query and head. Joins the splits in order; a thread per channel.
template <class T>
__global__ void __launch_bounds__(threads) join_splits(Sequences<T> cache, Geometry g, Splits splits, T* y) {
  const std::int64_t index = blockIdx.x, query = g.first + index % g.queries, pair = index / g.queries, b = pair / g.heads, h = pair % g.heads;
  const std::int64_t count = (cache.lengths[b] + query + split) / split;
  const float *largest = splits.largest + index * g.splits, *totals = splits.total + index * g.splits;
  float top = -INFINITY, total = 0;
  for (std::int64_t i = 0; i < count; ++i) top = fmaxf(top, largest[i]);
  for (std::int64_t i = 0; i < count; ++i) total = fmaf(totals[i], scalar::exp(largest[i] - top), total);
  T* out = y + ((b * g.tokens + query) * g.heads + h) * g.width;
  for (int c = static_cast<int>(threadIdx.x); c < g.width; c += threads) {
    float sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum = fmaf(splits.values[(index * g.splits + i) * g.width + c], scalar::exp(largest[i] - top), sum);
    out[c] = from_float<T>(sum / total);
  }
}

// The sequences [begin, end) of a cache.
template <class T>
Sequences<T> sequences_of(const KvCache& cache, std::int64_t begin, std::int64_t end) {
  Sequences<T> sequences{};
  for (std::int64_t b = begin; b < end; ++b) {
    const auto i = static_cast<std::size_t>(b);
    sequences.k[b - begin] = data<T>(cache.k[i]);
    sequences.v[b - begin] = data<T>(cache.v[i]);
    sequences.lengths[b - begin] = cache.lengths[i];
  }
  return sequences;
}

template <int N, class T>
bool has_packs(const T* qkv, const Sequences<T>& sequences, std::int64_t count) {
  bool aligned = is_aligned(qkv, N * sizeof(T));
  for (std::int64_t b = 0; b < count; ++b) aligned = aligned && is_aligned(sequences.k[b], N * sizeof(T)) && is_aligned(sequences.v[b], N * sizeof(T));
  return aligned;
}

// Queries per launch: the results of the splits take at most 64 MiB, or those of one query.
std::int64_t queries_per_launch(std::int64_t sequences, const Geometry& g) {
  const std::int64_t per_query = sequences * g.heads * g.splits * (g.width + 2) * 4;
  return std::clamp<std::int64_t>((std::int64_t{64} << 20) / per_query, 1, g.tokens);
}

template <int N, class T>
void run(const T* qkv, const Sequences<T>& sequences, std::int64_t count, Geometry g, T* y, Device device) {
  const bool packs = has_packs<N>(qkv, sequences, count);
  const std::int64_t row = g.heads * g.width, longest = *std::max_element(sequences.lengths, sequences.lengths + count);
  if (packs)
    launch<append_rows<N, T>>(blocks_for(count * g.tokens, 1), threads, 0, qkv, sequences, g.tokens, row);
  else
    launch<append_rows<1, T>>(blocks_for(count * g.tokens, 1), threads, 0, qkv, sequences, g.tokens, row);
  g.lanes = 1;
  while (g.lanes < warp_size && g.lanes * N < g.width) g.lanes *= 2;
  g.slabs = static_cast<int>(divide_up(g.width, g.lanes * N));
  g.splits = divide_up(longest + g.tokens, split);
  const std::int64_t most = queries_per_launch(count, g);
  const Shape shape{count * g.heads * most, g.splits};
  Tensor largest = empty(shape, DType::Float32, device), total = empty(shape, DType::Float32, device),
         values = empty(Shape{shape[0], shape[1], g.width}, DType::Float32, device);
  const Splits splits{data<float>(largest), data<float>(total), data<float>(values)};
  for (g.first = 0; g.first < g.tokens; g.first += most) {
    g.queries = std::min(most, g.tokens - g.first);
    g.groups = divide_up(g.queries, group);
    const unsigned blocks = blocks_for(count * g.heads * g.groups * g.splits * g.slabs, 1);
    if (packs)
      launch<attend_split<N, true, T>>(blocks, threads, sizeof(Shared), qkv, sequences, g, splits);
    else
      launch<attend_split<N, false, T>>(blocks, threads, sizeof(Shared), qkv, sequences, g, splits);
    launch<join_splits<T>>(blocks_for(count * g.heads * g.queries, 1), threads, 0, sequences, g, splits, y);
  }
}

// The width chooses the elements of a lane, and the addresses only choose how they are read: so the bits do not depend on addresses.
void forward(const Tensor& qkv, const AttentionOptions& options, const KvCache& cache, Tensor& y) {
  if (y.numel() == 0) return;
  for_element_type("attention_cached_forward", qkv.dtype(), [&]<class T>() {
    constexpr int N = 16 / sizeof(T);
    const std::int64_t count = qkv.size(0), tokens = qkv.size(1), width = y.size(2) / options.heads;
    require<ShapeError>(width < largest_grid / 2, "attention_cached: expected fewer channels on a GPU, got ", qkv.shape());
    Geometry g{};
    g.heads = options.heads;
    g.tokens = tokens;
    g.width = static_cast<int>(width);
    g.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
    for (std::int64_t begin = 0; begin < count; begin += most_sequences) {
      const std::int64_t end = std::min(count, begin + most_sequences);
      const Sequences<T> sequences = sequences_of<T>(cache, begin, end);
      const T* from = data<T>(qkv) + begin * tokens * qkv.size(2);
      T* to = data<T>(y) + begin * tokens * y.size(2);
      if (width % N == 0)
        run<N>(from, sequences, end - begin, g, to, qkv.device());
      else
        run<1>(from, sequences, end - begin, g, to, qkv.device());
    }
  });
}

const bool added = add_kernel(attention_cached_forward, forward);

}  // namespace
}  // namespace mblm::cuda
