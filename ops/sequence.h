#pragma once
#include "engine/autograd.h"

namespace mblm {

// y[b, 0] = start, y[b, 1 + t] = x[b, t] + positions[t] + above[b, t]: the input of a stage.
// x (B, T, D); start (D), positions (at least T, D) and above (B, T, D) may be undefined; y (B, 1 + T, D), or (B, T, D) without
// `start`. y is the residual stream: float32, or float64 for float64 inputs; the inputs mix float32 and bfloat16 freely.
// Keeps nothing; dx and dabove are dy without its start row, each in the dtype of its input; dstart and dpositions are sums of dy over
// the batch. Throws ShapeError, DTypeError.
Tensor stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above);
// y[b, t] = start at index i = 0 with a start token, else x[b, t] + positions[i - s] + above[b, t]; i = offsets[b] + t, s = 1 with a
// start token, else 0. The same for T tokens inside sequences, for inference; x[b, t] and above[b, t] are not read for the start token.
// Shapes and dtypes as above, but y (B, T, D) and offsets (B) int64 on the device of x. The caller ensures that positions has a row
// for each index; the op does not check it. Throws ShapeError, DTypeError; GradientError when an input requires a gradient.
Tensor stage_input_at(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets);
// With `start` and without `offsets`, y has one row more than x; otherwise it has as many rows as x. start, positions, above and
// offsets may be undefined.
extern Kernel<void(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets, Tensor& y)>
    stage_input_forward;
// dx (B, T, D) = the rows of dy that belong to x: dy without its first row when has_start. One floating dtype.
extern Kernel<void(const Tensor& dy, bool has_start, Tensor& dx)> stage_input_backward;
// out[t] = beta out[t] + sum over b of dy[b, first + t], for the T rows of out (T, D); dy (B, at least first + T, D). dy
// and out are float32 or bfloat16 in any combination, or both float64; sums are float32 (float64 for float64), and their order depends
// on the shapes only.
extern Kernel<void(const Tensor& dy, std::int64_t first, Tensor& out, float beta)> sum_over_batch;

// y[b, r - first] = x[b, 0, 0] for r = 0, x[b, i / T, 1 + i % T] for r = 1 + i; rows r in [first, first + count) of 1 + P T rows (0
// rows for P = 0): outputs of the local stage, in the order of the bytes that they predict.
// x (B, P, 1 + T, D), where row 0 of each patch is the output of the start token; only the first patch's row 0 is used. y (B, count, D).
// Any floating dtype. Keeps nothing; the gradient of the other rows is zero. Throws ShapeError, DTypeError.
Tensor flatten_patches(const Tensor& x, std::int64_t first, std::int64_t count);
extern Kernel<void(const Tensor& x, std::int64_t first, Tensor& y)> flatten_patches_forward;
extern Kernel<void(const Tensor& dy, std::int64_t first, Tensor& dx)> flatten_patches_backward;

// y[b] = x[b, begin .. end) along the second axis. x (B, T, ...), y (B, end - begin, ...) of any dtype. Returns x itself when all
// rows are taken. Keeps nothing. Throws ShapeError.
Tensor slice_sequence(const Tensor& x, std::int64_t begin, std::int64_t end);
// y[b] = x[b] with `before` zero rows in front and `after` zero rows behind, along the second axis. x (B, T, ...),
// y (B, before + T + after, ...). Returns x itself when both are 0. Keeps nothing. Throws ShapeError.
Tensor pad_sequence(const Tensor& x, std::int64_t before, std::int64_t after);
// to[b, to_begin + r] = from[b, from_begin + r] for r < count: the copy in both ops and their gradients.
extern Kernel<void(const Tensor& from, std::int64_t from_begin, Tensor& to, std::int64_t to_begin, std::int64_t count)> copy_sequence;

}  // namespace mblm
