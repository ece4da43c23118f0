#include "ops/exp.h"

#include "ops/check.h"
#include "ops/multiply.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> exp_forward{"exp_forward"};

Tensor exp(const Tensor& x) {
  require_floating("exp", x);
  Tensor y = empty_like(x);
  exp_forward(x, y);
  return record("exp", {x}, y, [y](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(y);
    multiply_forward(dy, y, dx);
    return {dx};
  });
}

}  // namespace mblm
