#pragma once
#include "engine/autograd.h"

namespace mblm {

// The input of a stage: y[b, 0] = start, y[b, 1 + t] = x[b, t] + positions[t] + above[b, t].
// x (B, T, D); start (D); positions (at least T, D) or undefined; above (B, T, D) or undefined; y (B, 1 + T, D).
// Without `start` the result has no row for it: (B, T, D). Keeps nothing. Throws ShapeError, DTypeError.
// Floating inputs of any dtype, float64 only with float64; y is the residual stream: float32, or float64.
Tensor stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above);
// The same for T tokens in the midst of sequences, for inference: row t of sequence b has index i = offsets[b] + t, where index 0
// is the start token if there is one. y (B, T, D): y[b, t] is start at index 0, where x and above are not read, and elsewhere
// x[b, t] + positions[i - (1 with a start token, else 0)] + above[b, t]. offsets (B) int64 on the device of x. No gradient.
Tensor stage_input_at(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets);
// Without offsets y has a row more than x where there is a start token; with offsets as many.
extern Kernel<void(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets, Tensor& y)>
    stage_input_forward;
// dx (B, T, D) = rows of dy that stand for x; undefined when dy itself will do.
extern Kernel<void(const Tensor& dy, bool has_start, Tensor& dx)> stage_input_backward;
// out[t] = beta out[t] + sum over b of dy[b, first + t], for the T rows of out (T, D); in order of b.
extern Kernel<void(const Tensor& dy, std::int64_t first, Tensor& out, float beta)> sum_over_batch;

// The outputs of the local stage in the order of the bytes they predict. x (B, P, 1 + T, D), the start token's output first
// in each patch. Row 0 of a sequence is the start token's output of its first patch, row 1 + i the output at byte i.
// Gives rows [first, first + count): (B, count, D). Keeps nothing; rows that are not taken get zero gradients.
Tensor flatten_patches(const Tensor& x, std::int64_t first, std::int64_t count);
extern Kernel<void(const Tensor& x, std::int64_t first, Tensor& y)> flatten_patches_forward;
extern Kernel<void(const Tensor& dy, std::int64_t first, Tensor& dx)> flatten_patches_backward;

// y[b] = x[b, begin .. end) along the second axis. x (B, T, ...), y (B, end - begin, ...). Keeps nothing.
Tensor slice_sequence(const Tensor& x, std::int64_t begin, std::int64_t end);
// y = x with `after` zero rows (before: in front) along the second axis. x (B, T, ...).
Tensor pad_sequence(const Tensor& x, std::int64_t before, std::int64_t after);
// The inner copy of both: rows [from_begin, from_begin + count) of each batch of `from` to those from to_begin of `to`.
extern Kernel<void(const Tensor& from, std::int64_t from_begin, Tensor& to, std::int64_t to_begin, std::int64_t count)> copy_sequence;

}  // namespace mblm
