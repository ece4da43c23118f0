// Argument checks that most ops share. Messages read `OP: expected X, got Y`; `what` names the argument.
#pragma once

#include <optional>
#include <string_view>

#include "engine/tensor.h"

namespace mblm {

// Throws DTypeError unless x is floating.
inline void require_floating(std::string_view op, const Tensor& x) {
  require<DTypeError>(x.defined() && is_floating(x.dtype()), op, ": expected floating elements, got ", x.dtype());
}
// Throws DTypeError unless x has that dtype.
inline void require_dtype(std::string_view op, std::string_view what, const Tensor& x, DType dtype) {
  require<DTypeError>(x.defined() && x.dtype() == dtype, op, ": expected ", what, " of ", dtype, ", got ", x.dtype());
}
// Throws DTypeError unless the weight is float64 for a float64 x, and float32 or bfloat16 for a float32 or bfloat16 x.
inline void require_weight(std::string_view op, std::string_view what, const Tensor& weight, const Tensor& x) {
  const bool wide = x.dtype() == DType::Float64;
  require<DTypeError>(weight.defined() && is_floating(weight.dtype()) && (weight.dtype() == DType::Float64) == wide, op, ": expected ", what, " of ",
                      wide ? "float64" : "float32 or bfloat16", ", got ", weight.dtype());
}
// Throws ShapeError unless x has that shape.
inline void require_shape(std::string_view op, std::string_view what, const Tensor& x, const Shape& shape) {
  require<ShapeError>(x.defined() && x.shape() == shape, op, ": expected ", what, " of shape ", shape, ", got ", x.shape());
}
// The axis counted from the front; a negative axis counts from the end. Throws ShapeError unless x has it.
inline int axis_of(std::string_view op, const Tensor& x, int axis) {
  require<ShapeError>(x.rank() >= 1, op, ": expected rank >= 1, got shape ", x.shape());
  require<ShapeError>(axis >= -x.rank() && axis < x.rank(), op, ": expected an axis in [", -x.rank(), ", ", x.rank(), "), got ", axis);
  return axis < 0 ? axis + x.rank() : axis;
}

// The dtype of tensors that stay float32 with bfloat16 inputs (parameters outside matrix products, statistics, states): float64
// for a float64 x, float32 otherwise.
inline DType wide_dtype(const Tensor& x) { return x.dtype() == DType::Float64 ? DType::Float64 : DType::Float32; }

// The dtype of an output that the caller may choose: that of x when unset. Throws DTypeError unless it is float64 for a float64
// x, and float32 or bfloat16 for a float32 or bfloat16 x.
inline DType output_dtype(std::string_view op, const Tensor& x, std::optional<DType> y_dtype) {
  const DType dtype = y_dtype.value_or(x.dtype());
  require<DTypeError>(is_floating(dtype) && (dtype == DType::Float64) == (x.dtype() == DType::Float64), op, ": expected an output of ",
                      x.dtype() == DType::Float64 ? "float64" : "float32 or bfloat16", ", got ", dtype);
  return dtype;
}

}  // namespace mblm
