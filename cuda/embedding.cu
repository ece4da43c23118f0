#include "ops/embedding.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cuda/kernel.h"

namespace mblm::cuda {
namespace {

constexpr int warps = 8, threads = warps * warp_size;

// ---- forward

constexpr int packs_per_lane = 4;  // independent accesses that a lane has in flight

// A warp copies up to 128 neighbouring packs of N elements of one row; blocks along y share the columns of wide rows. Reads and writes
// every element once. Memory bound.
template <int N, class W, class Y>
__global__ void __launch_bounds__(threads) gather_rows(const std::int64_t* ids, const W* table, std::int64_t positions, std::int64_t width, Y* y) {
  const std::int64_t position = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;
  if (position >= positions) return;
  const W* from = table + ids[position] * width;
  Y* to = y + position * width;
  constexpr std::int64_t step = std::int64_t{warp_size} * N;
  const std::int64_t first = std::int64_t{blockIdx.y} * packs_per_lane * step + std::int64_t{threadIdx.x % warp_size} * N;
  float values[packs_per_lane][N];
#pragma unroll
  for (int i = 0; i < packs_per_lane; ++i)
    if (first + i * step < width) read_pack<N>(values[i], from + first + i * step);
#pragma unroll
  for (int i = 0; i < packs_per_lane; ++i)
    if (first + i * step < width) write_pack<N>(to + first + i * step, values[i]);
}

void forward(const Tensor& ids, const Tensor& table, Tensor& y) {
  for_element_types("embedding_forward", table.dtype(), y.dtype(), [&]<class W, class Y>() {
    const std::int64_t positions = ids.numel(), width = table.size(1);
    const auto gather = [&]<int N>() {
      const dim3 grid(blocks_for(positions, warps), blocks_for(width, std::int64_t{N} * packs_per_lane * warp_size));
      launch<gather_rows<N, W, Y>>(grid, threads, 0, data<std::int64_t>(ids), data<W>(table), positions, width, data<Y>(y));
    };
    constexpr int N = 16 / std::max(sizeof(W), sizeof(Y));
    if (width % N == 0 && is_aligned(raw(table), N * sizeof(W)) && is_aligned(raw(y), N * sizeof(Y)))
      gather.template operator()<N>();
    else
      gather.template operator()<1>();
  });
}

// ---- backward
//
// The positions are sorted by id, so that the gradients of a row of the table are neighbours. Then the sorted positions are cut into
// tiles of equal size, which balances the work for any distribution of ids, and the partial sums of the tiles are added.
// The sort is a stable radix sort: within an id, positions stay in order. It moves 4 + 8 bytes per position and pass, far less than dy.

constexpr int slice = 256;     // positions that one block sorts; a thread compares its digit with those of all threads before it
constexpr int digit_bits = 9;  // one pass sorts a byte vocabulary with its special ids
constexpr int digits = 1 << digit_bits;

struct Histogram {
  int count[digits];
};

__device__ __forceinline__ int digit_of(int key, int shift) { return (key >> shift) & (digits - 1); }

// A block counts the digits of its slice. counts (digits, slices). `keys` holds the ids in the order of the earlier passes; null in the
// first pass, which reads `ids`.
__global__ void __launch_bounds__(slice) count_digits(const std::int64_t* ids, const int* keys, int positions, int shift, int slices, int* counts) {
  Histogram& shared = shared_memory<Histogram>();
  for (int d = threadIdx.x; d < digits; d += slice) shared.count[d] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x) * slice + static_cast<int>(threadIdx.x);
  if (i < positions) atomicAdd(&shared.count[digit_of(keys == nullptr ? static_cast<int>(ids[i]) : keys[i], shift)], 1);
  __syncthreads();
  for (int d = threadIdx.x; d < digits; d += slice) counts[std::int64_t{d} * slices + blockIdx.x] = shared.count[d];
}

// x becomes the sum of x over the earlier lanes; returns the sum over the warp.
__device__ __forceinline__ int exclusive_scan(int& x, int lane) {
  int sum = x;
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const int earlier = __shfl_up_sync(all_lanes, sum, static_cast<unsigned>(distance));
    if (lane >= distance) sum += earlier;
  }
  x = sum - x;
  return __shfl_sync(all_lanes, sum, warp_size - 1);
}

// A warp replaces the counts of one digit by their sums over the earlier slices, and writes the total.
__global__ void __launch_bounds__(threads) scan_slices(int* counts, int slices, int* totals) {
  const int lane = threadIdx.x % warp_size, digit = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / warp_size;
  int* of_digit = counts + std::int64_t{digit} * slices;
  int before = 0;
  for (int first = 0; first < slices; first += warp_size) {
    const int i = first + lane;
    int count = i < slices ? of_digit[i] : 0;
    const int sum = exclusive_scan(count, lane);
    if (i < slices) of_digit[i] = before + count;
    before += sum;
  }
  if (lane == 0) totals[digit] = before;
}

struct Slice {
  int digit[slice];
  int first[digits];  // place of the first position with a digit
  int warp_total[digits / warp_size];
};

// A block moves the positions of its slice to their places: first place of the digit + positions with the digit in earlier slices +
// those in this slice before it.
__global__ void __launch_bounds__(slice) move_positions(const std::int64_t* ids, const int* keys, const int* order, int count, int shift, int slices,
                                                        const int* counts, const int* totals, int* sorted_keys, int* sorted_order) {
  Slice& shared = shared_memory<Slice>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size, i = static_cast<int>(blockIdx.x) * slice + thread;
  const int key = i >= count ? 0 : keys == nullptr ? static_cast<int>(ids[i]) : keys[i];
  const int digit = digit_of(key, shift);
  shared.digit[thread] = digit;
  for (int d = thread; d < digits; d += slice) {
    int first = totals[d];
    const int total = exclusive_scan(first, lane);
    shared.first[d] = first;
    if (lane == 0) shared.warp_total[d / warp_size] = total;
  }
  __syncthreads();
  if (i >= count) return;
  int place = shared.first[digit] + counts[std::int64_t{digit} * slices + blockIdx.x];
  for (int w = 0; w < digit / warp_size; ++w) place += shared.warp_total[w];
  for (int other = 0; other < thread; ++other) place += shared.digit[other] == digit ? 1 : 0;
  sorted_keys[place] = key;
  sorted_order[place] = order == nullptr ? i : order[i];
}

// first_of_row[v] = number of positions with an id below v, for v = 0 .. rows: a thread per row searches the sorted ids.
__global__ void __launch_bounds__(threads) find_rows(const int* sorted_ids, int positions, int rows, int* first_of_row) {
  const int row = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (row > rows) return;
  int low = 0, high = positions;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (sorted_ids[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  first_of_row[row] = low;
}

constexpr int tile = 64;      // sorted positions of a block: partial sums are at most 1/16 of the bytes of dy for bfloat16, plus one row per id
constexpr int sum_warps = 4;  // side by side in the columns
constexpr int in_flight = 8;  // rows of dy that a lane reads before it adds them
constexpr int padded_tile = tile + in_flight;

struct TilePositions {
  int id[padded_tile], position[padded_tile];
};

// Block (x, y) adds the rows of dy of tile x, in sorted order; a lane has N neighbouring columns in registers. At each change of the id
// it writes the sum to row (tile + id) of the partials. Tiles and ids both increase along the sorted positions and one of them
// increases between two partial sums, so that no row of the partials is used twice. Sums are float32. Reads dy once: memory bound.
template <int N, class Y>
__global__ void __launch_bounds__(sum_warps* warp_size)
    sum_tiles(const Y* dy, const int* sorted_ids, const int* order, int positions, std::int64_t width, int frozen_row, float* partials) {
  TilePositions& shared = shared_memory<TilePositions>();
  const int first = static_cast<int>(blockIdx.x) * tile, count = positions - first < tile ? positions - first : tile;
  for (int i = threadIdx.x; i < padded_tile; i += sum_warps * warp_size) {
    shared.id[i] = i < count ? sorted_ids[first + i] : -1;
    shared.position[i] = i < count ? order[first + i] : -1;
  }
  __syncthreads();
  const std::int64_t column = (std::int64_t{blockIdx.y} * sum_warps * warp_size + threadIdx.x) * N;
  if (column >= width) return;
  float sum[N] = {};
  for (int begin = 0; begin < count; begin += in_flight) {
    float rows[in_flight][N];
#pragma unroll
    for (int j = 0; j < in_flight; ++j) {
      const int position = shared.position[begin + j];
#pragma unroll
      for (int k = 0; k < N; ++k) rows[j][k] = 0;
      if (position >= 0 && shared.id[begin + j] != frozen_row) read_pack<N>(rows[j], dy + position * width + column);
    }
#pragma unroll
    for (int j = 0; j < in_flight; ++j) {
      const int id = shared.id[begin + j];
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += rows[j][k];
      if (id >= 0 && shared.id[begin + j + 1] != id) {
        write_pack<N>(partials + (std::int64_t{blockIdx.x} + id) * width + column, sum);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] = 0;
      }
    }
  }
}

// A warp has 32 packs of N neighbouring columns of one row: dtable = beta dtable + the partial sums of the row's tiles, in order.
template <int N, class W>
__global__ void __launch_bounds__(threads)
    add_tiles(const float* partials, const int* first_of_row, int rows, std::int64_t width, float beta, W* dtable) {
  const int row = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t column = (std::int64_t{blockIdx.y} * warp_size + threadIdx.x % warp_size) * N;
  if (row >= rows || column >= width) return;
  const int begin = first_of_row[row], end = first_of_row[row + 1];
  float sum[N] = {};
  if (begin < end) {
    for (int t = begin / tile; t <= (end - 1) / tile; ++t) {
      float part[N];
      read_pack<N>(part, partials + (std::int64_t{t} + row) * width + column);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += part[k];
    }
  }
  W* out = dtable + row * width + column;
  if (beta != 0) {
    float before[N];
    read_pack<N>(before, out);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] = beta * before[k] + sum[k];
  }
  write_pack<N>(out, sum);
}

// Ids in increasing order, and the positions that have them.
struct SortedPositions {
  Tensor ids, order;
};
SortedPositions sort_positions(const Tensor& ids, std::int64_t rows) {
  const auto positions = static_cast<int>(ids.numel());
  const unsigned slices = blocks_for(positions, slice);
  const auto integers = [&](std::int64_t n) { return empty(Shape{n}, DType::Int32, ids.device()); };
  Tensor counts = integers(std::int64_t{digits} * slices), totals = integers(digits);
  SortedPositions sorted;
  int shift = 0;
  do {
    SortedPositions next{integers(positions), integers(positions)};
    const int* keys = sorted.ids.defined() ? data<std::int32_t>(std::as_const(sorted.ids)) : nullptr;
    const int* order = sorted.order.defined() ? data<std::int32_t>(std::as_const(sorted.order)) : nullptr;
    int *count = data<std::int32_t>(counts), *total = data<std::int32_t>(totals);
    launch<count_digits>(slices, slice, sizeof(Histogram), data<std::int64_t>(ids), keys, positions, shift, static_cast<int>(slices), count);
    launch<scan_slices>(digits / warps, threads, 0, count, static_cast<int>(slices), total);
    launch<move_positions>(slices, slice, sizeof(Slice), data<std::int64_t>(ids), keys, order, positions, shift, static_cast<int>(slices), count,
                           total, data<std::int32_t>(next.ids), data<std::int32_t>(next.order));
    sorted = next;
    shift += digit_bits;
  } while (shift < 31 && (rows - 1) >> shift > 0);
  return sorted;
}

void backward(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta) {
  for_element_types("embedding_backward", dtable.dtype(), dy.dtype(), [&]<class W, class Y>() {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const std::int64_t positions = ids.numel(), rows = dtable.size(0), width = dtable.size(1);
    require<ShapeError>(positions <= most - slice && rows < most, "embedding_backward: expected fewer than 2^31 ids and rows on a GPU, got ",
                        positions, " and ", rows);
    const SortedPositions sorted = sort_positions(ids, rows);
    const auto *sorted_ids = data<std::int32_t>(sorted.ids), *order = data<std::int32_t>(sorted.order);
    Tensor first_of_row = empty(Shape{rows + 1}, DType::Int32, ids.device());
    launch<find_rows>(blocks_for(rows + 1, threads), threads, 0, sorted_ids, static_cast<int>(positions), static_cast<int>(rows),
                      data<std::int32_t>(first_of_row));
    const unsigned tiles = blocks_for(positions, tile);
    Tensor partials = empty(Shape{tiles + rows, width}, DType::Float32, ids.device());
    const auto sum = [&]<int N>() {
      const dim3 tile_grid(tiles, blocks_for(width, std::int64_t{N} * sum_warps * warp_size));
      launch<sum_tiles<N, Y>>(tile_grid, sum_warps * warp_size, sizeof(TilePositions), data<Y>(dy), sorted_ids, order, static_cast<int>(positions),
                              width, static_cast<int>(frozen_row), data<float>(partials));
      const dim3 row_grid(blocks_for(rows, warps), blocks_for(width, std::int64_t{N} * warp_size));
      launch<add_tiles<N, W>>(row_grid, threads, 0, data<float>(std::as_const(partials)), data<std::int32_t>(std::as_const(first_of_row)),
                              static_cast<int>(rows), width, beta, data<W>(dtable));
    };
    constexpr int N = 4;  // columns of a lane: 16 bytes of float32, 8 of bfloat16
    if (width % N == 0 && is_aligned(raw(dy), N * sizeof(Y)) && is_aligned(raw(dtable), N * sizeof(W)))
      sum.template operator()<N>();
    else
      sum.template operator()<1>();
  });
}

const bool added = add_kernel(embedding_forward, forward) && add_kernel(embedding_backward, backward);

}  // namespace
}  // namespace mblm::cuda
