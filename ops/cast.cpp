#include "ops/cast.h"

#include "engine/elementwise.h"
#include "ops/check.h"

namespace mblm {

Tensor cast(const Tensor& x, DType dtype) {
  require_floating("cast", x);
  require<DTypeError>(is_floating(dtype), "cast: expected a floating target dtype, got ", dtype);
  if (x.dtype() == dtype) return x;
  Tensor y = empty(x.shape(), dtype, x.device());
  convert(x, y);
  return record("cast", {x}, y, [from = x.dtype()](const Tensor& dy) -> std::vector<Tensor> { return {cast(dy, from)}; });
}

}  // namespace mblm
