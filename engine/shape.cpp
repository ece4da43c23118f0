#include "engine/shape.h"

#include <algorithm>
#include <vector>

#include "engine/error.h"

namespace mblm {

Shape::Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const std::int64_t> sizes) {
  require<ShapeError>(sizes.size() <= max_rank, "shape: expected at most ", max_rank, " axes, got ", sizes.size());
  bool empty = false;
  for (const std::int64_t size : sizes) {
    require<ShapeError>(size >= 0, "shape: expected sizes of 0 or more, got ", size);
    empty = empty || size == 0;
    sizes_[rank_++] = size;
  }
  // Sizes of 0 are skipped, so that products of a part of the sizes also fit (rows of width 0).
  for (const std::int64_t size : sizes)
    require<ShapeError>(size == 0 || !__builtin_mul_overflow(numel_, size, &numel_), "shape: ", *this, " has more than 2^63 elements");
  if (empty) numel_ = 0;
}

std::int64_t Shape::operator[](int axis) const {
  const int index = axis < 0 ? axis + rank_ : axis;
  require<ShapeError>(index >= 0 && index < rank_, "shape: no axis ", axis, " in ", *this);
  return sizes_[index];
}

std::int64_t Shape::rows() const {
  std::int64_t rows = 1;
  for (int axis = 0; axis + 1 < rank_; ++axis) rows *= sizes_[axis];
  return rows;
}

Shape Shape::with(int axis, std::int64_t size) const {
  const int index = axis < 0 ? axis + rank_ : axis;
  require<ShapeError>(index >= 0 && index < rank_, "shape: no axis ", axis, " in ", *this);
  std::vector<std::int64_t> sizes(begin(), end());
  sizes[static_cast<std::size_t>(index)] = size;
  return Shape(std::span<const std::int64_t>(sizes));
}

Shape Shape::without_first() const {
  require<ShapeError>(rank_ > 0, "shape: a scalar has no first axis");
  return Shape(std::span(begin() + 1, end()));
}

bool Shape::operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (const std::int64_t* size = shape.begin(); size != shape.end(); ++size) out << (size == shape.begin() ? "" : ", ") << *size;
  return out << ')';
}

}  // namespace mblm
