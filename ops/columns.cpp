#include "ops/columns.h"

#include <algorithm>
#include <numeric>

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, std::int64_t, Tensor&, std::int64_t, std::int64_t)> copy_columns{"copy_columns"};

namespace {

// Copies each block of columns of x to a tensor.
std::vector<Tensor> split(const Tensor& x, std::span<const std::int64_t> widths) {
  std::vector<Tensor> parts;
  std::int64_t column = 0;
  for (const std::int64_t width : widths) {
    parts.push_back(empty(x.shape().with(-1, width), x.dtype(), x.device()));
    copy_columns(x, column, parts.back(), 0, width);
    column += width;
  }
  return parts;
}

// Joins the parts along the last axis to a tensor of that shape, in the dtype and on the device of `like`. An undefined part gives
// zeros.
Tensor join(std::span<const Tensor> parts, std::span<const std::int64_t> widths, const Shape& shape, const Tensor& like) {
  const bool complete = std::all_of(parts.begin(), parts.end(), [](const Tensor& part) { return part.defined(); });
  Tensor y = complete ? empty(shape, like.dtype(), like.device()) : zeros(shape, like.dtype(), like.device());
  std::int64_t column = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].defined()) copy_columns(parts[i], 0, y, column, widths[i]);
    column += widths[i];
  }
  return y;
}

}  // namespace

std::vector<Tensor> split_columns(const Tensor& x, std::span<const std::int64_t> widths) {
  require_floating("split_columns", x);
  require<ShapeError>(x.rank() >= 1, "split_columns: expected rank >= 1, got shape ", x.shape());
  const std::int64_t total = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
  require<ShapeError>(total == x.shape().last(), "split_columns: expected ", total, " columns, got shape ", x.shape());
  return record_many("split_columns", {x}, split(x, widths),
                     [shape = x.shape(), widths = std::vector(widths.begin(), widths.end())](std::span<const Tensor> dys) -> std::vector<Tensor> {
                       const auto used = std::find_if(dys.begin(), dys.end(), [](const Tensor& dy) { return dy.defined(); });
                       return {join(dys, widths, shape, *used)};
                     });
}

Tensor concat_columns(std::span<const Tensor> xs) {
  require<ShapeError>(!xs.empty(), "concat_columns: expected at least one input, got none");
  require_floating("concat_columns", xs[0]);
  require<ShapeError>(xs[0].rank() >= 1, "concat_columns: expected rank >= 1, got shape ", xs[0].shape());
  std::vector<std::int64_t> widths;
  for (const Tensor& x : xs) {
    require_dtype("concat_columns", "all inputs", x, xs[0].dtype());
    require<ShapeError>(x.rank() >= 1 && x.shape() == xs[0].shape().with(-1, x.shape().last()),
                        "concat_columns: expected shapes that differ only in the last size, got ", xs[0].shape(), " and ", x.shape());
    widths.push_back(x.shape().last());
  }
  const std::int64_t total = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
  const Tensor y = join(xs, widths, xs[0].shape().with(-1, total), xs[0]);
  return record("concat_columns", xs, y, [widths](const Tensor& dy) { return split(dy, widths); });
}

}  // namespace mblm
