#pragma once
#include <span>
#include "engine/autograd.h"

namespace mblm {

// y_k[..., i] = x[..., widths[0] + ... + widths[k - 1] + i]: splits the last axis. x (..., sum of widths); one y_k (..., widths[k])
// per entry, a copy of any floating dtype. Keeps nothing; the gradient of an unused output is zero. Throws ShapeError, DTypeError.
std::vector<Tensor> split_columns(const Tensor& x, std::span<const std::int64_t> widths);
// Joins tensors (..., D_k) along the last axis: y (..., sum of D_k). All other sizes are equal, and all inputs have one floating
// dtype. Keeps nothing. Throws ShapeError, DTypeError.
Tensor concat_columns(std::span<const Tensor> xs);

// to[row, to_column + i] = from[row, from_column + i] for i < width, over all rows; one dtype.
extern Kernel<void(const Tensor& from, std::int64_t from_column, Tensor& to, std::int64_t to_column, std::int64_t width)> copy_columns;

}  // namespace mblm
