// Element-wise ops of two tensors: how shapes broadcast, the layout that the kernels see, and the gradients of repeated operands.
#pragma once

#include <string_view>

#include "engine/autograd.h"

namespace mblm {

// The shape of y = f(a, b). The shapes are aligned at their last axes. Along each axis the sizes are equal, or one of them is 1 or
// missing; the elements of that operand repeat. So a scalar (), a row (D), a column (B, T, 1) and rows (T, D) combine with (B, T, D).
// Throws ShapeError for other shapes.
Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b);

// The kernel of y = f(a, b). It sees three tensors of one shape, or y and one operand as (O, R, D) and the other operand as
// (O, 1, D), whose elements repeat R times. a and b are float32 or bfloat16 in any combination, or both float64; y has the wider dtype.
using PairKernel = Kernel<void(const Tensor& a, const Tensor& b, Tensor& y)>;

// y = f(a, b) for all shapes that broadcast; without a history. An operand that repeats along axes that are not neighbours, such as
// (H, 1, D) in (B, H, T, D), is first copied to a shape that repeats once. If both operands repeat, a is copied to the shape of y.
// `op` is the name in messages. Throws ShapeError, DTypeError.
Tensor combine(std::string_view op, const PairKernel& kernel, const Tensor& a, const Tensor& b);

// What the gradient of an operand of y = f(a, b) needs. It keeps no elements.
class Operand {
 public:
  Operand(const Tensor& x, const Shape& y_shape);

  bool wants_grad() const { return wants_grad_; }
  bool repeats() const { return shape_.numel() != y_shape_.numel(); }
  DType dtype() const { return dtype_; }

  // The gradient from the gradient g of the operand as it repeats: factor * (the sum of g over the repeats), in the shape and dtype of the
  // operand. Sums are float32 (float64 for float64) and rounded once. Undefined when the operand requires no gradient.
  Tensor gradient(const Tensor& g, double factor = 1) const;
  // The same for g = u v, whose products are not rounded before the sum. u has the shape of y; v broadcasts to it.
  Tensor gradient_of_product(const Tensor& u, const Tensor& v) const;
  // The sum of u v over the repeats, in the shape of the operand, float32 (float64 for float64). u and v have the shape of y.
  Tensor sum_of_products(const Tensor& u, const Tensor& v) const;

 private:
  Tensor finished(const Tensor& sums) const;  // in the shape and dtype of the operand

  Shape shape_, y_shape_;
  DType dtype_;
  bool wants_grad_;
};

}  // namespace mblm
