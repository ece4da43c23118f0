#include "ops/multiply.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> multiply_forward{"multiply_forward"};

namespace {

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor y = empty_like(a);
  multiply_forward(a, b, y);
  return y;
}

}  // namespace

Tensor multiply(const Tensor& a, const Tensor& b) {
  require_floating("multiply", a);
  require_dtype("multiply", "both inputs", b, a.dtype());
  require<ShapeError>(a.shape() == b.shape(), "multiply: expected equal shapes, got ", a.shape(), " and ", b.shape());
  // A factor is kept only if the other one requires a gradient.
  const Tensor kept_a = b.wants_grad() ? a.detach() : Tensor{}, kept_b = a.wants_grad() ? b.detach() : Tensor{};
  return record("multiply", {a, b}, product(a, b), [kept_a, kept_b](const Tensor& dy) -> std::vector<Tensor> {
    return {kept_b.defined() ? product(dy, kept_b) : Tensor{}, kept_a.defined() ? product(dy, kept_a) : Tensor{}};
  });
}

}  // namespace mblm
