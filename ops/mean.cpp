#include "ops/mean.h"

#include "ops/check.h"
#include "ops/sum.h"

namespace mblm {

Tensor mean(const Tensor& x, int axis, bool keep_axis) {
  require_floating("mean", x);
  const std::int64_t count = x.size(axis_of("mean", x, axis));
  require<ShapeError>(count > 0, "mean: expected an axis of size >= 1, got axis ", axis, " of shape ", x.shape());
  return scaled_sum("mean", x, axis, keep_axis, 1.0 / static_cast<double>(count));
}

Tensor mean(const Tensor& x) {
  require<ShapeError>(x.numel() > 0, "mean: expected at least one element, got shape ", x.shape());
  return mean(x.reshape(Shape{x.numel()}), 0);
}

}  // namespace mblm
