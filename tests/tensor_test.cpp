// Shapes and tensors.
#include "engine/tensor.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/error_text.h"

namespace mblm::testing {

TEST_CASE("shapes know their sizes") {
  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 30);
  CHECK(shape[0] == 2);
  CHECK(shape[-1] == 5);
  CHECK(shape[-3] == 2);
  CHECK(shape.last() == 5);
  CHECK(shape.rows() == 6);
  CHECK(shape.with(1, 7) == Shape{2, 7, 5});
  CHECK(shape.with(-1, 7) == Shape{2, 3, 7});
  CHECK(shape.without_first() == Shape{3, 5});
  CHECK_FALSE(shape == Shape{2, 3});
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.rows() == 1);
  CHECK(Shape{4, 0}.numel() == 0);
  CHECK(Shape{4, 0}.rows() == 4);
}

TEST_CASE("shapes print as tuples") {
  CHECK(concat_text(Shape{2, 3}) == "(2, 3)");
  CHECK(concat_text(Shape{7}) == "(7)");
  CHECK(concat_text(Shape{}) == "()");
}

TEST_CASE("invalid shapes and axes are rejected") {
  constexpr std::int64_t large = std::int64_t{1} << 32;
  CHECK(error_text<ShapeError>([] { Shape{2, -1}; }) == "shape: expected sizes of 0 or more, got -1");
  CHECK(error_text<ShapeError>([] { Shape{large, large}; }) == "shape: (4294967296, 4294967296) has more than 2^63 elements");
  CHECK_THROWS_AS((Shape{large, large, 0}), ShapeError);  // the number of rows would overflow
  CHECK_THROWS_AS((Shape{0, large, large}), ShapeError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK(Shape{large, large / 4}.numel() == std::int64_t{1} << 62);
  CHECK(error_text<ShapeError>([] { (void)Shape{2, 3}[2]; }) == "shape: no axis 2 in (2, 3)");
  CHECK_THROWS_AS((Shape{2, 3}[-3]), ShapeError);
  CHECK_THROWS_AS(Shape{}.last(), ShapeError);
  CHECK_THROWS_AS((Shape{2}.with(1, 3)), ShapeError);
  CHECK_THROWS_AS((Shape{2}.with(0, -3)), ShapeError);
  CHECK_THROWS_AS(Shape{}.without_first(), ShapeError);
}

TEST_CASE("tensors hold the given values") {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const Tensor x = from_values<float>(Shape{2, 3}, values);
  CHECK(x.to_vector<float>() == values);
  CHECK(x.bytes() == 24);
  CHECK(x.dtype() == DType::Float32);
  CHECK(x.device() == Device{});
  CHECK(zeros(Shape{2}, DType::Int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 0});
  CHECK(from_values<std::int32_t>(Shape{}, std::vector<std::int32_t>{-7}).item() == -7);
  CHECK(from_values<std::uint8_t>(Shape{1}, std::vector<std::uint8_t>{200}).item() == 200);
  CHECK(from_values<bfloat16>(Shape{1}, std::vector<bfloat16>{bfloat16(1.5f)}).item() == 1.5);
  CHECK(reinterpret_cast<std::uintptr_t>(x.host_bytes().data()) % 64 == 0);
  CHECK(empty(Shape{0, 3}, DType::Float32).to_vector<float>().empty());
}

TEST_CASE("tensors reject other element types and sizes") {
  const Tensor x = zeros(Shape{2, 3}, DType::Float32);
  CHECK(error_text<DTypeError>([&] { (void)x.host_data<double>(); }) == "tensor: expected float64 elements, got float32");
  CHECK_THROWS_AS(x.to_vector<std::int64_t>(), DTypeError);
  CHECK_THROWS_AS(x.item(), ShapeError);
  CHECK_THROWS_AS(Tensor{}.item(), ShapeError);
  CHECK_THROWS_AS(Tensor{}.to_vector<float>(), ShapeError);
  CHECK_THROWS_AS((from_values<float>(Shape{2}, std::vector<float>{1, 2, 3})), ShapeError);
  CHECK_THROWS_AS((zeros(Shape{2}, DType::Int64).as_leaf()), DTypeError);
  Tensor to = zeros(Shape{2, 3}, DType::Float64), shorter = zeros(Shape{2}, DType::Float32), undefined;
  CHECK_THROWS_AS(copy_into(to, x), DTypeError);
  CHECK_THROWS_AS(copy_into(shorter, x), ShapeError);
  CHECK_THROWS_AS(copy_into(shorter, undefined), ShapeError);
  CHECK_THROWS_AS(fill_zero(undefined), ShapeError);
  float values[2] = {};
  const auto storage = std::make_shared<Storage>(values, sizeof values, nullptr);
  CHECK(Tensor(storage, 4, Shape{1}, DType::Float32).numel() == 1);
  CHECK_THROWS_AS(Tensor(storage, 4, Shape{2}, DType::Float32), ShapeError);
  CHECK_THROWS_AS(Tensor(storage, 9, Shape{0}, DType::Float32), ShapeError);
  CHECK_THROWS_AS(Tensor(storage, 0, Shape{std::int64_t{1} << 62}, DType::Float32), ShapeError);  // 2^64 bytes
}

TEST_CASE("views share elements, copies do not") {
  Tensor x = from_values<float>(Shape{3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK(x.storage_is_unshared());
  Tensor rows = x.slice(1, 3), flat = x.reshape(Shape{6});
  const Tensor copy = clone(x);
  CHECK_FALSE(x.storage_is_unshared());
  CHECK(copy.storage_is_unshared());
  CHECK(rows.shape() == Shape{2, 2});
  CHECK(rows.same_storage(flat));
  rows.host_data<float>()[0] = 30;
  CHECK(x.to_vector<float>() == std::vector<float>{1, 2, 30, 4, 5, 6});
  CHECK(flat.host_data<float>()[2] == 30);
  CHECK(copy.host_data<float>()[2] == 3);
  CHECK(rows.slice(1, 2).to_vector<float>() == std::vector<float>{5, 6});
  CHECK(x.slice(3, 3).numel() == 0);
  CHECK_THROWS_AS(x.slice(2, 4), ShapeError);
  CHECK_THROWS_AS(x.slice(-1, 2), ShapeError);
  CHECK_THROWS_AS(x.slice(2, 1), ShapeError);
  CHECK_THROWS_AS(zeros(Shape{}, DType::Float32).slice(0, 0), ShapeError);
  CHECK(error_text<ShapeError>([&] { x.reshape(Shape{4}); }) == "reshape: (3, 2) has 6 elements, (4) has 4");
}

TEST_CASE("a view keeps the elements alive") {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2});
  const std::weak_ptr<const void> watch = owner;
  Tensor view;
  {
    const Tensor x(std::make_shared<Storage>(owner->data(), 8, owner), 0, Shape{2}, DType::Float32);
    view = x.slice(1, 2);
    owner.reset();
  }
  CHECK_FALSE(watch.expired());
  CHECK(view.item() == 2);
  view = {};
  CHECK(watch.expired());
}

TEST_CASE("bfloat16 rounds to nearest even and preserves infinity and NaN") {
  const auto rounded = [](float value) { return static_cast<float>(bfloat16(value)); };
  CHECK(rounded(1.0f) == 1.0f);
  CHECK(rounded(1.0f + 0x1p-8f) == 1.0f);                // halfway, to the even side
  CHECK(rounded(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);  // halfway, to the even side
  CHECK(rounded(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);
  CHECK(rounded(-std::numeric_limits<float>::infinity()) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isinf(rounded(std::numeric_limits<float>::max())));
}

}  // namespace mblm::testing
