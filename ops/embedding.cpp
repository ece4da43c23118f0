#include "ops/embedding.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> embedding_forward{"embedding_forward"};
constinit Kernel<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, float)> embedding_backward{"embedding_backward"};

Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t frozen_row, std::optional<DType> y_dtype) {
  require_dtype("embedding", "ids", ids, DType::Int64);
  require_floating("embedding", table);
  require<ShapeError>(table.rank() == 2, "embedding: expected a table of rank 2, got shape ", table.shape());
  require<ShapeError>(ids.rank() < Shape::max_rank, "embedding: expected ids of rank < ", Shape::max_rank, ", got shape ", ids.shape());
  std::vector<std::int64_t> sizes(ids.shape().begin(), ids.shape().end());
  sizes.push_back(table.size(1));
  Tensor y = empty(Shape(sizes), output_dtype("embedding", table, y_dtype), table.device());
  embedding_forward(ids, table, y);
  return record("embedding", {table}, y, [ids, table, frozen_row](const Tensor& dy) -> std::vector<Tensor> {
    GradSlot dtable = grad_slot(table);
    embedding_backward(ids, dy, frozen_row, dtable.tensor, dtable.beta);
    return {dtable.done()};
  });
}

}  // namespace mblm
