#include "ops/subtract.h"

namespace mblm {

constinit PairKernel subtract_forward{"subtract_forward"};

Tensor subtract(const Tensor& a, const Tensor& b) {
  const Tensor y = combine("subtract", subtract_forward, a, b);
  return record("subtract", {a, b}, y, [da = Operand(a, y.shape()), db = Operand(b, y.shape())](const Tensor& dy) -> std::vector<Tensor> {
    return {da.gradient(dy), db.gradient(dy, -1)};
  });
}

}  // namespace mblm
