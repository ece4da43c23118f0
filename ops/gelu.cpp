#include "ops/gelu.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&)> gelu_forward{"gelu_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> gelu_backward{"gelu_backward"};

Tensor gelu(const Tensor& x) {
  require_floating("gelu", x);
  Tensor y = empty_like(x);
  gelu_forward(x, y);
  return record("gelu", {x}, y, [x = x.detach()](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(x);
    gelu_backward(x, dy, dx);
    return {dx};
  });
}

}  // namespace mblm
