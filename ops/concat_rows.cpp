#include "ops/concat_rows.h"

#include "ops/check.h"

namespace mblm {

Tensor concat_rows(std::span<const Tensor> xs) {
  require<ShapeError>(!xs.empty() && xs[0].rank() >= 1, "concat_rows: expected at least one tensor of rank >= 1");
  std::int64_t rows = 0;
  for (const Tensor& x : xs) {
    require<ShapeError>(x.rank() >= 1 && x.shape().without_first() == xs[0].shape().without_first(),
                        "concat_rows: expected equal sizes after the first axis, got ", xs[0].shape(), " and ", x.shape());
    rows += x.size(0);
  }
  Tensor y = empty(xs[0].shape().with(0, rows), xs[0].dtype(), xs[0].device());
  std::vector<std::int64_t> ends;
  rows = 0;
  for (const Tensor& x : xs) {
    Tensor part = y.slice(rows, rows + x.size(0));
    copy_into(part, x);
    ends.push_back(rows += x.size(0));
  }
  return record("concat_rows", xs, y, [ends](const Tensor& dy) {
    std::vector<Tensor> dxs;
    for (std::size_t i = 0; i < ends.size(); ++i) dxs.push_back(dy.slice(i == 0 ? 0 : ends[i - 1], ends[i]));
    return dxs;
  });
}

}  // namespace mblm
