#pragma once
#include <optional>
#include "engine/autograd.h"

namespace mblm {

// y[..., :] = table[ids[...], :]. ids (...) int64 in [0, V), table (V, D); y (..., D).
// table is floating; y has y_dtype, or the dtype of table when unset (float32 and bfloat16 in any combination, or both float64).
// Row `frozen_row` (-1: none) is read like any other row and never receives a gradient.
// Keeps ids. The caller checks that ids are in [0, V), because a kernel cannot report which one is wrong; the op does not.
// Throws ShapeError, DTypeError.
Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t frozen_row = -1, std::optional<DType> y_dtype = {});

extern Kernel<void(const Tensor& ids, const Tensor& table, Tensor& y)> embedding_forward;
// dtable[v] = beta dtable[v] + sum of dy over the positions with id v, added in order of position; the sum is 0 for v = frozen_row.
// Sums are float32 for bfloat16 (float64 for float64).
extern Kernel<void(const Tensor& ids, const Tensor& dy, std::int64_t frozen_row, Tensor& dtable, float beta)> embedding_backward;

}  // namespace mblm
