#include "ops/matmul.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, const MatmulFlags&)> matmul_forward{"matmul_forward"};

namespace {

// (..., rows, columns) as (batch, rows, columns); a matrix stays a matrix.
Tensor with_one_batch_axis(const Tensor& x) {
  if (x.rank() == 2) return x;
  std::int64_t batch = 1;
  for (int axis = 0; axis + 2 < x.rank(); ++axis) batch *= x.size(axis);
  return x.reshape(Shape{batch, x.size(-2), x.size(-1)});
}

Shape leading_axes(const Tensor& x) { return Shape(std::span(x.shape().begin(), static_cast<std::size_t>(x.rank() - 2))); }

Shape result_shape(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  require<ShapeError>(a.rank() >= 2 && b.rank() >= 2, "matmul: expected rank >= 2, got ", a.shape(), " x ", b.shape());
  require<ShapeError>(a.size(transpose_a ? -2 : -1) == b.size(transpose_b ? -1 : -2), "matmul: inner sizes differ, ", a.shape(),
                      transpose_a ? "^T" : "", " x ", b.shape(), transpose_b ? "^T" : "");
  require<ShapeError>(a.rank() == 2 || b.rank() == 2 || leading_axes(a) == leading_axes(b), "matmul: leading axes differ, ", a.shape(), " x ",
                      b.shape());
  const Tensor& longer = a.rank() >= b.rank() ? a : b;
  return longer.shape().with(-2, a.size(transpose_a ? -1 : -2)).with(-1, b.size(transpose_b ? -2 : -1));
}

// The gradient of `like` = op(x) op(y). If `like` is one matrix for the whole batch, the products are summed in batch order.
Tensor gradient(const Tensor& like, const Tensor& x, const Tensor& y, bool transpose_x, bool transpose_y) {
  const bool shared = like.rank() == 2 && (x.rank() > 2 || y.rank() > 2);
  GradSlot slot = grad_slot(like);
  Tensor out = with_one_batch_axis(slot.tensor);
  const Tensor flat_x = with_one_batch_axis(x), flat_y = with_one_batch_axis(y);
  MatmulFlags flags{transpose_x, transpose_y, slot.beta};
  if (!shared) {
    matmul_forward(flat_x, flat_y, {}, out, flags);
    return slot.done();
  }
  const std::int64_t batch = flat_x.rank() > 2 ? flat_x.size(0) : flat_y.size(0);
  if (batch == 0 && slot.beta == 0) fill_zero(out);
  const auto matrix = [](const Tensor& all, std::int64_t i) {
    return all.rank() == 2 ? all : all.slice(i, i + 1).reshape(Shape{all.size(1), all.size(2)});
  };
  for (std::int64_t i = 0; i < batch; ++i, flags.beta = 1) matmul_forward(matrix(flat_x, i), matrix(flat_y, i), {}, out, flags);
  return slot.done();
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  require_floating("matmul", a);
  require_dtype("matmul", "b", b, a.dtype());
  Tensor c = empty(result_shape(a, b, transpose_a, transpose_b), a.dtype(), a.device());
  Tensor flat_c = with_one_batch_axis(c);
  matmul_forward(with_one_batch_axis(a.detach()), with_one_batch_axis(b.detach()), {}, flat_c, {transpose_a, transpose_b});
  return record("matmul", {a, b}, c, [a, b, transpose_a, transpose_b](const Tensor& dc) -> std::vector<Tensor> {
    Tensor da, db;
    if (a.wants_grad()) da = transpose_a ? gradient(a, b, dc, transpose_b, true) : gradient(a, dc, b, false, !transpose_b);
    if (b.wants_grad()) db = transpose_b ? gradient(b, dc, a, true, transpose_a) : gradient(b, a, dc, !transpose_a, false);
    return {da, db};
  });
}

}  // namespace mblm
