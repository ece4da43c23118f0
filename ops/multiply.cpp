#include "ops/multiply.h"

namespace mblm {

constinit PairKernel multiply_forward{"multiply_forward"};

Tensor multiply(const Tensor& a, const Tensor& b) {
  const Tensor y = combine("multiply", multiply_forward, a, b);
  // A factor is kept only if the other one requires a gradient.
  const Tensor kept_a = b.wants_grad() ? a.detach() : Tensor{}, kept_b = a.wants_grad() ? b.detach() : Tensor{};
  return record("multiply", {a, b}, y,
                [da = Operand(a, y.shape()), db = Operand(b, y.shape()), kept_a, kept_b](const Tensor& dy) -> std::vector<Tensor> {
                  return {da.gradient_of_product(dy, kept_b), db.gradient_of_product(dy, kept_a)};
                });
}

}  // namespace mblm
