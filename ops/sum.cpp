#include "ops/sum.h"

#include <vector>

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, double, Tensor&)> sum_forward{"sum_forward"};
constinit Kernel<void(const Tensor&, double, Tensor&)> sum_backward{"sum_backward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> sum_products{"sum_products"};

Tensor scaled_sum(const char* op, const Tensor& x, int axis, bool keep_axis, double factor) {
  require_floating(op, x);
  const int summed = axis_of(op, x, axis);
  std::vector<std::int64_t> sizes(x.shape().begin(), x.shape().end());
  std::int64_t outer = 1, inner = 1;
  for (int i = 0; i < x.rank(); ++i) (i < summed ? outer : inner) *= i == summed ? 1 : x.size(i);
  const Shape terms{outer, x.size(summed), inner}, sums{outer, 1, inner};
  if (keep_axis)
    sizes[static_cast<std::size_t>(summed)] = 1;
  else
    sizes.erase(sizes.begin() + summed);
  Tensor y = empty(Shape(std::span<const std::int64_t>(sizes)), x.dtype(), x.device()), y_view = y.reshape(sums);
  sum_forward(x.detach().reshape(terms), factor, y_view);
  return record(op, {x}, y, [shape = x.shape(), terms, sums, factor](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty(shape, dy.dtype(), dy.device()), dx_view = dx.reshape(terms);
    sum_backward(dy.reshape(sums), factor, dx_view);
    return {dx};
  });
}

Tensor sum(const Tensor& x, int axis, bool keep_axis) { return scaled_sum("sum", x, axis, keep_axis, 1.0); }
Tensor sum(const Tensor& x) { return sum(x.reshape(Shape{x.numel()}), 0); }

}  // namespace mblm
