#include "ops/sequence.h"

#include <optional>

#include "ops/cast.h"
#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&)> stage_input_forward{"stage_input_forward"};
constinit Kernel<void(const Tensor&, bool, Tensor&)> stage_input_backward{"stage_input_backward"};
constinit Kernel<void(const Tensor&, std::int64_t, Tensor&, float)> sum_over_batch{"sum_over_batch"};
constinit Kernel<void(const Tensor&, std::int64_t, Tensor&)> flatten_patches_forward{"flatten_patches_forward"};
constinit Kernel<void(const Tensor&, std::int64_t, Tensor&)> flatten_patches_backward{"flatten_patches_backward"};
constinit Kernel<void(const Tensor&, std::int64_t, Tensor&, std::int64_t, std::int64_t)> copy_sequence{"copy_sequence"};

namespace {

void check_stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, std::int64_t least_positions) {
  require_floating("stage_input", x);
  require<ShapeError>(x.rank() == 3, "stage_input: expected x of shape (B, T, D), got ", x.shape());
  if (start.defined()) {
    require_shape("stage_input", "start", start, Shape{x.size(2)});
    require_weight("stage_input", "start", start, x);
  }
  if (positions.defined()) {
    require<ShapeError>(positions.rank() == 2 && positions.size(0) >= least_positions && positions.size(1) == x.size(2),
                        "stage_input: expected at least ", least_positions, " positions of width ", x.size(2), ", got shape ", positions.shape());
    require_weight("stage_input", "positions", positions, x);
  }
  if (above.defined()) {
    require_shape("stage_input", "above", above, x.shape());
    require_weight("stage_input", "above", above, x);
  }
}

// Gradient of a weight (R, D) or (D) whose first `rows` rows are added to rows first .. first + rows - 1 of every sequence: the sum
// of these rows of dy over the batch, zero for the other rows of the weight.
Tensor batch_gradient(const Tensor& weight, const Tensor& dy, std::int64_t first, std::int64_t rows) {
  GradSlot slot = grad_slot(weight);
  const std::int64_t width = dy.size(2), weight_rows = weight.rank() == 1 ? 1 : weight.size(0);
  if (slot.beta == 0 && rows < weight_rows) fill_zero(slot.tensor);
  Tensor used = slot.tensor.reshape(Shape{weight_rows, width}).slice(0, rows);
  sum_over_batch(dy, first, used, slot.beta);
  return slot.done();
}

// Copies rows [from_begin, from_begin + count) of each sequence of x to rows [to_begin, to_begin + count) of a new tensor with
// `rows` rows per sequence; the other rows are zero.
Tensor moved_rows(const Tensor& x, std::int64_t from_begin, std::int64_t count, std::int64_t rows, std::int64_t to_begin) {
  const Shape shape = x.shape().with(1, rows);
  Tensor y = count == rows ? empty(shape, x.dtype(), x.device()) : zeros(shape, x.dtype(), x.device());
  copy_sequence(x, from_begin, y, to_begin, count);
  return y;
}

}  // namespace

Tensor stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above) {
  check_stage_input(start, x, positions, above, x.size(1));
  const bool has_start = start.defined();
  const std::int64_t first = has_start ? 1 : 0;
  Tensor y = empty(x.shape().with(1, first + x.size(1)), wide_dtype(x), x.device());
  stage_input_forward(start, x, positions, above, {}, y);
  const std::optional<DType> dx_dtype = x.wants_grad() ? std::optional(x.dtype()) : std::nullopt,
                             dabove_dtype = above.wants_grad() ? std::optional(above.dtype()) : std::nullopt;
  return record("stage_input", {start, x, positions, above}, y,
                [start, positions, dx_dtype, dabove_dtype, has_start, shape = x.shape()](const Tensor& dy) -> std::vector<Tensor> {
                  Tensor dstart, dpositions, rows = has_start ? Tensor{} : dy;
                  if (has_start && (dx_dtype || dabove_dtype)) {
                    rows = empty(shape, dy.dtype(), dy.device());
                    stage_input_backward(dy, has_start, rows);
                  }
                  if (start.wants_grad()) dstart = batch_gradient(start, dy, 0, 1);
                  if (positions.wants_grad()) dpositions = batch_gradient(positions, dy, has_start ? 1 : 0, shape[1]);
                  return {dstart, dx_dtype ? cast(rows, *dx_dtype) : Tensor{}, dpositions, dabove_dtype ? cast(rows, *dabove_dtype) : Tensor{}};
                });
}

Tensor stage_input_at(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets) {
  check_stage_input(start, x, positions, above, 0);
  refuse_gradient("stage_input_at", {start, x, positions, above});
  require_dtype("stage_input_at", "offsets", offsets, DType::Int64);
  require_shape("stage_input_at", "offsets", offsets, Shape{x.size(0)});
  Tensor y = empty(x.shape(), wide_dtype(x), x.device());
  stage_input_forward(start, x, positions, above, offsets, y);
  return y;
}

Tensor flatten_patches(const Tensor& x, std::int64_t first, std::int64_t count) {
  require_floating("flatten_patches", x);
  require<ShapeError>(x.rank() == 4 && x.size(2) >= 1, "flatten_patches: expected shape (B, P, 1 + T, D), got ", x.shape());
  const std::int64_t rows = x.size(1) == 0 ? 0 : 1 + x.size(1) * (x.size(2) - 1);
  require<ShapeError>(first >= 0 && count >= 0 && first + count <= rows, "flatten_patches: expected rows within [0, ", rows, "), got [", first, ", ",
                      first + count, ")");
  Tensor y = empty(Shape{x.size(0), count, x.size(3)}, x.dtype(), x.device());
  flatten_patches_forward(x, first, y);
  return record("flatten_patches", {x}, y, [shape = x.shape(), first](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty(shape, dy.dtype(), dy.device());
    flatten_patches_backward(dy, first, dx);
    return {dx};
  });
}

Tensor slice_sequence(const Tensor& x, std::int64_t begin, std::int64_t end) {
  require<ShapeError>(x.rank() >= 2, "slice_sequence: expected shape (B, T, ...), got ", x.shape());
  const std::int64_t rows = x.size(1);
  require<ShapeError>(0 <= begin && begin <= end && end <= rows, "slice_sequence: expected rows within [0, ", rows, "), got [", begin, ", ", end,
                      ")");
  if (end - begin == rows) return x;
  const Tensor y = moved_rows(x, begin, end - begin, end - begin, 0);
  return record("slice_sequence", {x}, y,
                [rows, begin, count = end - begin](const Tensor& dy) -> std::vector<Tensor> { return {moved_rows(dy, 0, count, rows, begin)}; });
}

Tensor pad_sequence(const Tensor& x, std::int64_t before, std::int64_t after) {
  require<ShapeError>(x.rank() >= 2, "pad_sequence: expected shape (B, T, ...), got ", x.shape());
  require<ShapeError>(before >= 0 && after >= 0, "pad_sequence: expected row counts >= 0, got ", before, " and ", after);
  if (before + after == 0) return x;
  const std::int64_t rows = x.size(1);
  const Tensor y = moved_rows(x, 0, rows, before + rows + after, before);
  return record("pad_sequence", {x}, y, [rows, before](const Tensor& dy) -> std::vector<Tensor> { return {moved_rows(dy, before, rows, rows, 0)}; });
}

}  // namespace mblm
