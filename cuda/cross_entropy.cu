#include "ops/cross_entropy.h"

#include <limits>

#include "cuda/block_sum.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr int row_warps = 8, rows_per_warp = 4;  // 32 rows per block: the second kernel of forward adds one partial sum per 32 rows
constexpr int row_threads = row_warps * warp_size, rows_per_block = row_warps * rows_per_warp;
constexpr int pack = 4;  // float32 logits of one access
constexpr double infinity = std::numeric_limits<double>::infinity();

// The contribution of 32 rows to the mean.
struct PartialLoss {
  double loss;
  std::int64_t count;
};
struct PartialLosses {
  PartialLoss of_warp[row_warps];
};

// The maximum of a row and sum_v exp(x_v - maximum), in every lane. The second pass over the row reads the L1 cache.
template <int N>
__device__ __forceinline__ void find_sum_of_exp(const float* x, std::int64_t width, int lane, float& top, float& sum) {
  float largest = -std::numeric_limits<float>::infinity(), part = 0;
  for (std::int64_t v = lane * N; v < width; v += warp_size * N) {
    float values[N];
    read_pack<N>(values, x + v);
#pragma unroll
    for (int i = 0; i < N; ++i) largest = values[i] > largest ? values[i] : largest;
  }
  top = warp_max(largest);
  for (std::int64_t v = lane * N; v < width; v += warp_size * N) {
    float values[N];
    read_pack<N>(values, x + v);
#pragma unroll
    for (int i = 0; i < N; ++i) part += scalar::exp(values[i] - top);
  }
  sum = warp_sum(part);
}

// A warp computes 4 neighbouring rows, one after the other; lanes run along the row in packs of N logits (N = 1 for rows that are not
// aligned). Reads 4 V + 8 bytes and writes 12 bytes per row; memory bound for V of a few hundred. The sum of exponentials is float32,
// its logarithm and everything after it float64. Writes one partial loss per block.
template <int N>
__global__ void __launch_bounds__(row_threads)
    compute_losses(const float* logits, const std::int64_t* targets, std::int64_t ignored_id, const float* weights, std::int64_t rows,
                   std::int64_t width, float* elements, double* log_sum_exp, PartialLoss* partials) {
  PartialLosses& shared = shared_memory<PartialLosses>();
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const std::int64_t first = std::int64_t{blockIdx.x} * rows_per_block + warp * rows_per_warp;
  PartialLoss sums{0, 0};
  for (std::int64_t row = first; row < first + rows_per_warp && row < rows; ++row) {
    const std::int64_t target = targets[row];
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[row]);
    float element = 0;
    double log_of_row = infinity;
    if (target != ignored_id && target >= 0 && target < width && weight != 0) {
      const float* x = logits + row * width;
      float top, sum;
      find_sum_of_exp<N>(x, width, lane, top, sum);
      const double log_sum = log(static_cast<double>(sum));
      log_of_row = static_cast<double>(top) + log_sum;
      element = static_cast<float>(weight * (log_sum - (static_cast<double>(x[target]) - static_cast<double>(top))));
    }
    if (lane == 0) {
      elements[row] = element;
      log_sum_exp[row] = log_of_row;
    }
    sums.loss += static_cast<double>(element);
    sums.count += element != 0 ? 1 : 0;
  }
  if (lane == 0) shared.of_warp[warp] = sums;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < row_warps; ++other) {
    sums.loss += shared.of_warp[other].loss;
    sums.count += shared.of_warp[other].count;
  }
  partials[blockIdx.x] = sums;
}

constexpr int mean_threads = 1024;
struct MeanSums {
  WarpSums<double> loss;
  WarpSums<std::int64_t> count;
};

// One block: a thread adds every 1024th partial loss in order, then the block adds the sums of its threads. Sums are float64.
__global__ void __launch_bounds__(mean_threads) compute_mean(const PartialLoss* partials, std::int64_t parts, float* loss, std::int64_t* count) {
  MeanSums& shared = shared_memory<MeanSums>();
  PartialLoss sums{0, 0};
  for (std::int64_t part = threadIdx.x; part < parts; part += mean_threads) {
    sums.loss += partials[part].loss;
    sums.count += partials[part].count;
  }
  const double total = block_sum(sums.loss, shared.loss);
  const std::int64_t elements = block_sum(sums.count, shared.count);
  if (threadIdx.x != 0) return;
  *loss = elements == 0 ? 0.0f : static_cast<float>(total / static_cast<double>(elements));
  *count = elements;
}

const float* float_or_null(const Tensor& x) { return x.defined() ? data<float>(x) : nullptr; }

void forward(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights, Tensor& elements, Tensor& log_sum_exp,
             Tensor& loss, Tensor& count) {
  const std::int64_t rows = targets.numel(), width = logits.shape().last();
  const unsigned blocks = blocks_for(rows, rows_per_block);
  Tensor partials = empty(Shape{blocks, sizeof(PartialLoss) / sizeof(double)}, DType::Float64, logits.device());
  auto* sums = reinterpret_cast<PartialLoss*>(data<double>(partials));
  const auto compute = [&]<int N>() {
    launch<compute_losses<N>>(blocks, row_threads, sizeof(PartialLosses), data<float>(logits), data<std::int64_t>(targets), ignored_id,
                              float_or_null(weights), rows, width, data<float>(elements), data<double>(log_sum_exp), sums);
  };
  if (width % pack == 0 && is_aligned(raw(logits), pack * sizeof(float)))
    compute.template operator()<pack>();
  else
    compute.template operator()<1>();
  launch<compute_mean>(1, mean_threads, sizeof(MeanSums), sums, std::int64_t{blocks}, data<float>(loss), data<std::int64_t>(count));
}

// A warp computes 4 neighbouring rows: dlogits = factor (exp(x - log-sum-exp) - onehot). The log-sum-exp is subtracted in two float32
// parts; the second is the rounding error of the first. Reads 4 V bytes and writes 4 V bytes per row. Memory bound.
template <int N>
__global__ void __launch_bounds__(row_threads)
    compute_gradients(const float* logits, const std::int64_t* targets, const float* weights, const double* log_sum_exp, const std::int64_t* count,
                      const float* dloss, std::int64_t rows, std::int64_t width, float* dlogits) {
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const std::int64_t first = std::int64_t{blockIdx.x} * rows_per_block + warp * rows_per_warp, elements = *count;
  const double share = elements == 0 ? 0.0 : static_cast<double>(*dloss) / static_cast<double>(elements);
  for (std::int64_t row = first; row < first + rows_per_warp && row < rows; ++row) {
    const double log_of_row = log_sum_exp[row];
    const bool ignored = log_of_row == infinity;
    const float factor = static_cast<float>(share * (weights == nullptr ? 1.0 : static_cast<double>(weights[row])));
    const float high = static_cast<float>(log_of_row), low = static_cast<float>(log_of_row - static_cast<double>(high));
    const std::int64_t target = targets[row];
    for (std::int64_t v = lane * N; v < width; v += warp_size * N) {
      float x[N], dx[N];
      read_pack<N>(x, logits + row * width + v);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float gradient = factor * scalar::exp((x[i] - high) - low);
        dx[i] = ignored ? 0.0f : v + i == target ? gradient - factor : gradient;
      }
      write_pack<N>(dlogits + row * width + v, dx);
    }
  }
}

void backward(const Tensor& logits, const Tensor& targets, const Tensor& weights, const Tensor& log_sum_exp, const Tensor& count, const Tensor& dloss,
              Tensor& dlogits) {
  const std::int64_t rows = targets.numel(), width = logits.shape().last();
  const auto compute = [&]<int N>() {
    launch<compute_gradients<N>>(blocks_for(rows, rows_per_block), row_threads, 0, data<float>(logits), data<std::int64_t>(targets),
                                 float_or_null(weights), data<double>(log_sum_exp), data<std::int64_t>(count), data<float>(dloss), rows, width,
                                 data<float>(dlogits));
  };
  if (width % pack == 0 && is_aligned(raw(logits), pack * sizeof(float)) && is_aligned(raw(dlogits), pack * sizeof(float)))
    compute.template operator()<pack>();
  else
    compute.template operator()<1>();
}

const bool added = add_kernel(cross_entropy_forward, forward, {DType::Float32}) && add_kernel(cross_entropy_backward, backward, {DType::Float32});

}  // namespace
}  // namespace mblm::cuda
