// The checks that most ops share. Messages read: op, wish, fact.
#pragma once

#include <optional>
#include <string_view>

#include "engine/tensor.h"

namespace mblm {

// DTypeError unless x is floating / of that dtype; ShapeError unless x has that shape. `what` names the argument.
inline void require_floating(std::string_view op, const Tensor& x) {
  require<DTypeError>(x.defined() && is_floating(x.dtype()), op, ": expected floating elements, got ", x.dtype());
}
inline void require_dtype(std::string_view op, std::string_view what, const Tensor& x, DType dtype) {
  require<DTypeError>(x.defined() && x.dtype() == dtype, op, ": expected ", what, " of ", dtype, ", got ", x.dtype());
}
// DTypeError unless the weight is floating, and float64 exactly when x is: otherwise its dtype is independent of the input's.
inline void require_weight(std::string_view op, std::string_view what, const Tensor& weight, const Tensor& x) {
  const bool wide = x.dtype() == DType::Float64;
  require<DTypeError>(weight.defined() && is_floating(weight.dtype()) && (weight.dtype() == DType::Float64) == wide, op, ": expected ", what, " of ",
                      wide ? "float64" : "float32 or bfloat16", ", got ", weight.dtype());
}
inline void require_shape(std::string_view op, std::string_view what, const Tensor& x, const Shape& shape) {
  require<ShapeError>(x.defined() && x.shape() == shape, op, ": expected ", what, " of shape ", shape, ", got ", x.shape());
}

// The dtype of what keeps float32 beside bfloat16 inputs (parameters outside products, statistics, states): float32, or
// float64 beside float64.
inline DType wide_dtype(const Tensor& x) { return x.dtype() == DType::Float64 ? DType::Float64 : DType::Float32; }

// The dtype of an output that the caller may choose: x's when unset. DTypeError unless it is floating, and float64 exactly when
// x is.
inline DType output_dtype(std::string_view op, const Tensor& x, std::optional<DType> y_dtype) {
  const DType dtype = y_dtype.value_or(x.dtype());
  require<DTypeError>(is_floating(dtype) && (dtype == DType::Float64) == (x.dtype() == DType::Float64), op, ": expected an output of ",
                      x.dtype() == DType::Float64 ? "float64" : "float32 or bfloat16", ", got ", dtype);
  return dtype;
}

}  // namespace mblm
