#include "ops/split_rows.h"

#include <algorithm>

#include "ops/check.h"

namespace mblm {
namespace {

// The gradient of x from those of the parts, not all of them undefined.
Tensor join(std::span<const Tensor> dys, const Shape& shape, std::int64_t rows) {
  const auto is_used = [](const Tensor& dy) { return dy.defined(); };
  const Tensor& used = *std::find_if(dys.begin(), dys.end(), is_used);
  Tensor dx = std::all_of(dys.begin(), dys.end(), is_used) ? empty(shape, used.dtype(), used.device()) : zeros(shape, used.dtype(), used.device());
  std::int64_t begin = 0;
  for (const Tensor& dy : dys) {
    const std::int64_t end = std::min(shape[0], begin + rows);
    Tensor part = dx.slice(begin, end);
    if (dy.defined()) copy_into(part, dy);
    begin = end;
  }
  return dx;
}

}  // namespace

std::vector<Tensor> split_rows(const Tensor& x, std::int64_t rows) {
  require<ShapeError>(x.rank() >= 1 && rows >= 1, "split_rows: expected rank >= 1 and at least one row per part, got shape ", x.shape(), " and ", rows, " rows");
  std::vector<Tensor> parts;
  const Tensor all = x.detach();
  for (std::int64_t begin = 0; begin < x.size(0); begin += rows) parts.push_back(all.slice(begin, std::min(x.size(0), begin + rows)));
  return record_many("split_rows", {x}, std::move(parts),
                     [shape = x.shape(), rows](std::span<const Tensor> dys) -> std::vector<Tensor> { return {join(dys, shape, rows)}; });
}

}  // namespace mblm
