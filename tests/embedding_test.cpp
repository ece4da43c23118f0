#include "ops/embedding.h"

#include <doctest/doctest.h>

#include "tests/kernel_device.h"

namespace mblm::testing {

TEST_CASE("embedding: the frozen row is read and receives no gradient") {
  const Device device = kernel_device();
  const Tensor ids = from_values<std::int64_t>(Shape{5}, {2, 0, 2, 1, 0}, device);
  const Tensor table = from_values<float>(Shape{3, 2}, {1, 2, 3, 4, 5, 6}, device).as_leaf();
  const Tensor y = embedding(ids, table, 2);
  CHECK(y.to_vector<float>() == std::vector<float>{5, 6, 1, 2, 5, 6, 3, 4, 1, 2});
  const Tensor dy = from_values<float>(Shape{5, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, device);
  const Tensor dtable = backward(std::span(&y, 1), std::span(&dy, 1), std::span(&table, 1)).at(0);
  CHECK(dtable.to_vector<float>() == std::vector<float>{12, 14, 7, 8, 0, 0});
}

TEST_CASE("embedding: refuses a table of the wrong rank, and wrong dtypes") {
  const Tensor ids = zeros(Shape{3}, DType::Int64);
  CHECK_THROWS_WITH_AS(embedding(ids, zeros(Shape{3}, DType::Float32)), "embedding: expected a table of rank 2, got shape (3)", ShapeError);
  CHECK_THROWS_AS(embedding(ids, zeros(Shape{3, 2}, DType::Int64)), DTypeError);
  CHECK_THROWS_AS(embedding(zeros(Shape{3}, DType::Int32), zeros(Shape{3, 2}, DType::Float32)), DTypeError);
}

}  // namespace mblm::testing
