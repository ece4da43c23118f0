#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y[..., :] = table[ids[...], :]. ids (...) int64 in [0, V), table (V, D) floating; y (..., D) of y_dtype, or of the table's
// dtype when unset (float32 and bfloat16 mix freely; float64 goes only with float64).
// Row `frozen_row` (-1: none) is read like any other and never receives a gradient.
// Keeps ids. The ids must be checked before: a kernel cannot say which one is wrong. Throws ShapeError, DTypeError.
Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t frozen_row = -1, std::optional<DType> y_dtype = {});

extern Kernel<void(const Tensor& ids, const Tensor& table, Tensor& y)> embedding_forward;
// dtable = beta dtable + sum over positions with that id of dy; rows are summed in order of position.
extern Kernel<void(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta)> embedding_backward;

}  // namespace mblm
