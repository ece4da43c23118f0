#include "ops/add.h"

#include "ops/cast.h"
#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> add_forward{"add_forward"};

Tensor add(const Tensor& a, const Tensor& b) {
  require_floating("add", a);
  require_weight("add", "b", b, a);
  require<ShapeError>(a.shape() == b.shape(), "add: expected equal shapes, got ", a.shape(), " and ", b.shape());
  Tensor y = empty_like(a.dtype() == DType::BFloat16 ? b : a);
  add_forward(a, b, y);
  return record("add", {a, b}, y, [a_dtype = a.dtype(), b_dtype = b.dtype()](const Tensor& dy) -> std::vector<Tensor> {
    return {cast(dy, a_dtype), cast(dy, b_dtype)};
  });
}

}  // namespace mblm
