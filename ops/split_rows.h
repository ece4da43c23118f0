#pragma once
#include "engine/autograd.h"

namespace mblm {

// y_k = x[k R .. (k + 1) R): splits the first axis into parts of `rows` = R rows; the last part may have fewer. x (N, ...) of any dtype
// with N >= 0; ceil(N / R) parts, which are views of x. Keeps nothing; the gradient of an unused part is zero.
// For parts that are used one by one: the gradient of all of them is written once, where that of each Tensor::slice is as large as x.
// Throws ShapeError.
std::vector<Tensor> split_rows(const Tensor& x, std::int64_t rows);

}  // namespace mblm
