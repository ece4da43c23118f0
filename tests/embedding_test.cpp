#include "ops/embedding.h"

#include <doctest/doctest.h>

namespace mblm::testing {

TEST_CASE("embedding: the frozen row is read and gets no gradient") {
  const Tensor ids = from_values<std::int64_t>(Shape{5}, {2, 0, 2, 1, 0});
  const Tensor table = from_values<float>(Shape{3, 2}, {1, 2, 3, 4, 5, 6}).as_leaf();
  const Tensor y = embedding(ids, table, 2);
  CHECK(y.to_vector<float>() == std::vector<float>{5, 6, 1, 2, 5, 6, 3, 4, 1, 2});
  const Tensor dy = from_values<float>(Shape{5, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const Tensor dtable = backward(std::span(&y, 1), std::span(&dy, 1), std::span(&table, 1)).at(0);
  CHECK(dtable.to_vector<float>() == std::vector<float>{12, 14, 7, 8, 0, 0});
}

TEST_CASE("embedding: check_ids names the first bad id") {
  const std::vector<std::int64_t> values{0, 255, 3, 256, -1, 7};
  CHECK_NOTHROW(check_ids(from_values<std::int64_t>(Shape{3}, {0, 255, 3}), 256));
  CHECK_NOTHROW(check_ids(empty(Shape{2, 0}, DType::Int64), 256));
  CHECK_THROWS_WITH_AS(check_ids(from_values<std::int64_t>(Shape{2, 3}, values), 256), "input_ids: expected ids in [0, 256), got 256 at position 3",
                       ValueError);
  CHECK_THROWS_WITH_AS(check_ids(from_values<std::int64_t>(Shape{2, 3}, values), 257), "input_ids: expected ids in [0, 257), got -1 at position 4",
                       ValueError);
  CHECK_THROWS_AS(check_ids(zeros(Shape{3}, DType::Float32), 256), DTypeError);
}

TEST_CASE("embedding: refuses a table that is none") {
  const Tensor ids = zeros(Shape{3}, DType::Int64);
  CHECK_THROWS_WITH_AS(embedding(ids, zeros(Shape{3}, DType::Float32)), "embedding: expected a table of rank 2, got shape (3)", ShapeError);
  CHECK_THROWS_AS(embedding(ids, zeros(Shape{3, 2}, DType::Int64)), DTypeError);
  CHECK_THROWS_AS(embedding(zeros(Shape{3}, DType::Int32), zeros(Shape{3, 2}, DType::Float32)), DTypeError);
}

}  // namespace mblm::testing
