#include "ops/divide.h"

#include "ops/cast.h"
#include "ops/check.h"
#include "ops/scale.h"

namespace mblm {

constinit PairKernel divide_forward{"divide_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&)> divide_backward{"divide_backward"};

namespace {

// The terms of a sum are not rounded to bfloat16.
Tensor dividend_gradient(const Operand& a, const Tensor& dy, const Tensor& b) {
  if (!a.wants_grad()) return {};
  return a.gradient(combine("divide", divide_forward, a.repeats() ? cast(dy, wide_dtype(dy)) : dy, b));
}

// A repeated divisor is a factor of its sum: db = -(sum of dy y) / b.
Tensor divisor_gradient(const Operand& operand, const Tensor& y, const Tensor& b, const Tensor& dy) {
  if (!operand.wants_grad()) return {};
  if (operand.repeats()) return cast(scale(combine("divide", divide_forward, operand.sum_of_products(dy, y), b), -1), operand.dtype());
  Tensor db = empty_like(b);
  divide_backward(y, b, dy, db);
  return db;
}

}  // namespace

Tensor divide(const Tensor& a, const Tensor& b) {
  const Tensor y = combine("divide", divide_forward, a, b), kept_y = b.wants_grad() ? y : Tensor{};
  return record("divide", {a, b}, y,
                [da = Operand(a, y.shape()), db = Operand(b, y.shape()), b = b.detach(), kept_y](const Tensor& dy) -> std::vector<Tensor> {
                  return {dividend_gradient(da, dy, b), divisor_gradient(db, kept_y, b, dy)};
                });
}

}  // namespace mblm
