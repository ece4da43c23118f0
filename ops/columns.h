#pragma once
#include <span>
#include "engine/autograd.h"

namespace mblm {

// Splits the last axis: x (..., sum of widths) gives one (..., width) tensor per entry. Keeps nothing.
std::vector<Tensor> split_columns(const Tensor& x, std::span<const std::int64_t> widths);
// Joins along the last axis; all other sizes agree. Keeps nothing.
Tensor concat_columns(std::span<const Tensor> xs);

// to[row, to_column + i] = from[row, from_column + i] for i < width, over all rows.
extern Kernel<void(const Tensor& from, std::int64_t from_column, Tensor& to, std::int64_t to_column, std::int64_t width)> copy_columns;

}  // namespace mblm
