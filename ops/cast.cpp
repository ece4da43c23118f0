#include "ops/cast.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> cast_kernel{"cast"};
constinit Kernel<void(const Tensor&, double, Tensor&)> scale_kernel{"scale"};

namespace {

Tensor converted(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = empty(x.shape(), dtype, x.device());
  cast_kernel(x, y);
  return y;
}

Tensor scaled(const Tensor& x, double factor) {
  Tensor y = empty_like(x);
  scale_kernel(x, factor, y);
  return y;
}

}  // namespace

Tensor cast(const Tensor& x, DType dtype) {
  require_floating("cast", x);
  require<DTypeError>(is_floating(dtype), "cast: expected a floating type to cast to, got ", dtype);
  if (x.dtype() == dtype) return x;
  return record("cast", {x}, converted(x, dtype), [from = x.dtype()](const Tensor& dy) -> std::vector<Tensor> { return {converted(dy, from)}; });
}

Tensor scale(const Tensor& x, double factor) {
  require_floating("scale", x);
  return record("scale", {x}, scaled(x, factor), [factor](const Tensor& dy) -> std::vector<Tensor> { return {scaled(dy, factor)}; });
}

}  // namespace mblm
