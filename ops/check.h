// The checks that most ops share. Messages read: op, wish, fact.
#pragma once

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
inline void require_shape(std::string_view op, std::string_view what, const Tensor& x, const Shape& shape) {
  require<ShapeError>(x.defined() && x.shape() == shape, op, ": expected ", what, " of shape ", shape, ", got ", x.shape());
}

}  // namespace mblm
