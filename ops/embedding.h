#pragma once
#include "engine/autograd.h"

namespace mblm {

// y[..., :] = table[ids[...], :]. ids (...) int64 in [0, V), table (V, D); y (..., D).
// Row `frozen_row` (-1: none) is read like any other and never receives a gradient.
// Keeps ids. The ids must be checked before: a kernel cannot say which one is wrong. Throws ShapeError, DTypeError.
Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t frozen_row = -1);

extern Kernel<void(const Tensor& ids, const Tensor& table, Tensor& y)> embedding_forward;
// dtable = beta dtable + sum over positions with that id of dy; rows are summed in order of position.
extern Kernel<void(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta)> embedding_backward;

}  // namespace mblm
