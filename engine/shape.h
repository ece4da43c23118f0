// The sizes of a tensor's axes, outermost first.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

namespace mblm {

class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;  // rank 0: a scalar
  // Throws ShapeError for a negative size, more than max_rank axes, or a product of the nonzero sizes that does not fit in
  // 63 bits.
  Shape(std::initializer_list<std::int64_t> sizes);
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const { return rank_; }
  std::int64_t numel() const { return numel_; }  // product of all sizes; 1 for a scalar
  // Size of an axis; negative axes count from the end. Throws ShapeError when there is no such axis.
  std::int64_t operator[](int axis) const;
  std::int64_t last() const { return (*this)[-1]; }
  // Product of all sizes but the last: the number of rows.
  std::int64_t rows() const;

  // The same shape with one axis replaced, or the first axis removed.
  Shape with(int axis, std::int64_t size) const;
  Shape without_first() const;

  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  bool operator==(const Shape& other) const;

 private:
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
  std::int64_t numel_ = 1;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);  // (2, 3)

}  // namespace mblm
