#include "ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"

namespace mblm {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// sum_v exp(x_v - shift), in the element type: V additions, spread over vector lanes.
template <class T>
T sum_of_exp(const T* x, std::int64_t width, T shift) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t v = 0; v < width; ++v) sum += scalar::exp(x[v] - shift);
  return sum;
}

// Contribution of the rows of one tile to the mean.
struct Sums {
  double loss = 0;
  std::int64_t count = 0;
};

// The search for the maximum brings a row into the L1 cache. The loss is log sum - (x_target - max), which keeps its digits for
// logits far from zero.
template <class T>
Sums forward_rows(const T* logits, const std::int64_t* targets, std::int64_t ignored_id, const T* weights, std::int64_t begin, std::int64_t end,
                  std::int64_t width, T* elements, double* log_sum_exp) {
  Sums sums;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t target = targets[row];
    const T* x = logits + row * width;
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[row]);
    elements[row] = 0;
    log_sum_exp[row] = infinity;
    if (target == ignored_id || target < 0 || target >= width || weight == 0) continue;
    const T top = row_max(x, width);
    const double log_sum = std::log(static_cast<double>(sum_of_exp(x, width, top)));
    log_sum_exp[row] = static_cast<double>(top) + log_sum;
    elements[row] = static_cast<T>(weight * (log_sum - (static_cast<double>(x[target]) - static_cast<double>(top))));
    sums.loss += static_cast<double>(elements[row]);
    sums.count += elements[row] != 0 ? 1 : 0;
  }
  return sums;
}

void forward(const Tensor& logits, const Tensor& targets, std::int64_t ignored_id, const Tensor& weights, Tensor& elements, Tensor& log_sum_exp,
             Tensor& loss, Tensor& count) {
  for_real_type("cross_entropy_forward", logits.dtype(), [&]<class T>() {
    const std::int64_t rows = targets.numel(), width = logits.shape().last(), tile_rows = rows_per_tile(width);
    std::vector<Sums> tiles(static_cast<std::size_t>(tile_count(rows, tile_rows)));
    const T *x = data<T>(logits), *w = data_or_null<T>(weights);
    const std::int64_t* t = data<std::int64_t>(targets);
    T* e = data<T>(elements);
    double* l = data<double>(log_sum_exp);
    parallel_tiles(rows, tile_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
      tiles[static_cast<std::size_t>(tile)] = forward_rows(x, t, ignored_id, w, begin, end, width, e, l);
    });
    Sums total;
    for (const Sums& tile : tiles) {
      total.loss += tile.loss;
      total.count += tile.count;
    }
    *data<T>(loss) = total.count == 0 ? T(0) : static_cast<T>(total.loss / static_cast<double>(total.count));
    *data<std::int64_t>(count) = total.count;
  });
}

// out = factor (softmax(x) - onehot). The log-sum-exp is subtracted in two parts; the second is the rounding error of the first.
template <class T>
void backward_row(const T* x, std::int64_t width, std::int64_t target, double log_sum_exp, T factor, T* out) {
  const T high = static_cast<T>(log_sum_exp), low = static_cast<T>(log_sum_exp - static_cast<double>(high));
#pragma omp simd
  for (std::int64_t v = 0; v < width; ++v) out[v] = factor * scalar::exp((x[v] - high) - low);
  out[target] -= factor;
}

void backward(const Tensor& logits, const Tensor& targets, const Tensor& weights, const Tensor& log_sum_exp, const Tensor& count, const Tensor& dloss,
              Tensor& dlogits) {
  for_real_type("cross_entropy_backward", logits.dtype(), [&]<class T>() {
    const std::int64_t rows = targets.numel(), width = logits.shape().last(), elements = *data<std::int64_t>(count);
    const double share = elements == 0 ? 0.0 : static_cast<double>(*data<T>(dloss)) / static_cast<double>(elements);
    const T *x = data<T>(logits), *w = data_or_null<T>(weights);
    const std::int64_t* t = data<std::int64_t>(targets);
    const double* l = data<double>(log_sum_exp);
    T* dx = data<T>(dlogits);
    parallel_tiles(rows, rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        if (l[row] == infinity) {
          std::fill_n(dx + row * width, width, T(0));
        } else {
          const double weight = w == nullptr ? 1.0 : static_cast<double>(w[row]);
          backward_row(x + row * width, width, t[row], l[row], static_cast<T>(share * weight), dx + row * width);
        }
      }
    });
  });
}

const bool added = add_cpu_kernel(cross_entropy_forward, forward) && add_cpu_kernel(cross_entropy_backward, backward);

}  // namespace
}  // namespace mblm
