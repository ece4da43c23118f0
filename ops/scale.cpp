#include "ops/scale.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, double, Tensor&)> scale_forward{"scale_forward"};

Tensor scale(const Tensor& x, double factor) {
  require_floating("scale", x);
  Tensor y = empty_like(x);
  scale_forward(x, factor, y);
  return record("scale", {x}, y, [factor](const Tensor& dy) -> std::vector<Tensor> { return {scale(dy, factor)}; });
}

}  // namespace mblm
