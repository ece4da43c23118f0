#include "cuda/kernel.h"
#include "ops/sequence.h"

namespace mblm::cuda {
namespace {

// Sums over the rows of a matrix whose rows are `stride` elements apart: out = beta out + the sum, of `width` columns.
constexpr int sum_threads = 256;
constexpr int most_groups = 8;

// Memory for the sums of the groups of threads.
template <int N>
struct GroupSums {
  float part[most_groups][sum_threads / most_groups][N];
};

// A block has `groups` (1 or 8) groups of threads, and a thread N neighbouring columns. The block sums `block_rows` rows: group g adds
// every groups-th row, four under way at once, then group 0 adds the sums of the groups in order. bfloat16: 2 bytes and one addition
// per element. Sums are float32.
template <int groups, int N, class From, class Out>
__global__ void __launch_bounds__(sum_threads)
    sum_rows(const From* from, std::int64_t rows, std::int64_t stride, std::int64_t width, std::int64_t block_rows, std::uint32_t tiles, float beta,
             Out* out) {
  constexpr int lanes = sum_threads / groups;
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes;
  const std::int64_t column = (std::int64_t{blockIdx.x % tiles} * lanes + lane) * N, block = blockIdx.x / tiles;
  const std::int64_t end = std::min((block + 1) * block_rows, rows);
  float sum[N] = {};
  if (column < width) {
#pragma unroll 4
    for (std::int64_t row = block * block_rows + group; row < end; row += groups) {
      float v[N];
      read_pack(v, from + row * stride + column);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += v[j];
    }
  }
  if constexpr (groups > 1) {
    GroupSums<N>& shared = shared_memory<GroupSums<N>>();
#pragma unroll
    for (int j = 0; j < N; ++j) shared.part[group][lane][j] = sum[j];
    __syncthreads();
    if (group != 0) return;
#pragma unroll
    for (int other = 1; other < groups; ++other) {
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += shared.part[other][lane][j];
    }
  }
  if (column >= width) return;
  Out* to = out + block * width + column;
#pragma unroll
  for (int j = 0; j < N; ++j) to[j] = from_float<Out>(beta == 0 ? sum[j] : beta * to_float(to[j]) + sum[j]);
}

// `blocks` partial sums (blocks, width), or the sum itself for one block.
template <class From, class Out>
void start(const From* from, std::int64_t rows, std::int64_t stride, std::int64_t width, std::int64_t block_rows, std::int64_t blocks, float beta,
           Out* out) {
  constexpr int N = 16 / static_cast<int>(sizeof(From));
  const auto run = [&]<int groups, int count>() {
    const std::int64_t tiles = divide_up(width, std::int64_t{sum_threads / groups} * count);
    launch<sum_rows<groups, count, From, Out>>(blocks_for(tiles * blocks, 1), sum_threads, groups > 1 ? sizeof(GroupSums<count>) : 0, from, rows,
                                               stride, width, block_rows, static_cast<std::uint32_t>(tiles), beta, out);
  };
  const bool packed = is_aligned(from, 16) && stride % N == 0 && width % N == 0, few_rows = block_rows <= 2 * most_groups;
  if (packed && few_rows)
    run.template operator()<1, N>();
  else if (packed)
    run.template operator()<most_groups, N>();
  else if (few_rows)
    run.template operator()<1, 1>();
  else
    run.template operator()<most_groups, 1>();
}

// Splits the rows so that about `wanted_blocks` blocks run, with at least 64 rows each: the partial sums are then below 4 % of the data.
// Depends on the shape only.
constexpr std::int64_t wanted_blocks = 1024, least_rows = 64;

void batch_sum(const Tensor& dy, std::int64_t first, Tensor& out, float beta) {
  for_element_types("sum_over_batch", dy.dtype(), out.dtype(), [&]<class From, class Out>() {
    const std::int64_t rows = dy.size(0), stride = dy.size(1) * dy.size(2), width = out.numel();
    const From* from = data<From>(dy) + first * dy.size(2);
    const std::int64_t tiles = divide_up(width, std::int64_t{sum_threads / most_groups} * (16 / static_cast<std::int64_t>(sizeof(From))));
    const std::int64_t most = std::max<std::int64_t>(1, wanted_blocks / std::max<std::int64_t>(1, tiles));
    const std::int64_t block_rows = std::max(least_rows, divide_up(rows, most)), blocks = divide_up(rows, block_rows);
    if (blocks <= 1) {
      start(from, rows, stride, width, std::max<std::int64_t>(1, rows), 1, beta, data<Out>(out));
      return;
    }
    Tensor partials = empty(Shape{blocks, width}, DType::Float32, dy.device());
    start(from, rows, stride, width, block_rows, blocks, 0.0f, data<float>(partials));
    start(static_cast<const float*>(data<float>(partials)), blocks, width, width, blocks, 1, beta, data<Out>(out));
  });
}

const bool added = add_kernel(sum_over_batch, batch_sum);

}  // namespace
}  // namespace mblm::cuda
