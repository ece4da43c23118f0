#include "ops/broadcast.h"

#include <algorithm>
#include <vector>

#include "ops/cast.h"
#include "ops/check.h"
#include "ops/multiply.h"
#include "ops/scale.h"
#include "ops/sum.h"

namespace mblm {
namespace {

// A run of neighbouring axes along which an operand repeats: (outer, inner) becomes (outer, count, inner).
struct Repeat {
  std::int64_t outer, count, inner;
  Shape once() const { return Shape{outer, 1, inner}; }
  Shape repeated() const { return Shape{outer, count, inner}; }
};

// The repeats that turn a tensor of shape `from` into the broader shape `to`, the innermost first: `inner` contains the earlier ones.
// Sums over them run in the opposite order.
std::vector<Repeat> repeats_between(const Shape& from, const Shape& to) {
  std::vector<Repeat> all;
  std::int64_t inner = 1, outer = from.numel();
  bool open = false;  // the last repeat continues at the next axis
  for (int axis = to.rank() - 1, source = from.rank() - 1; axis >= 0; --axis, --source) {
    const std::int64_t size = to[axis], own = source >= 0 ? from[source] : 1;
    if (size == 1) continue;
    if (own == size) {
      inner *= size;
      outer = size == 0 ? 0 : outer / size;
      open = false;
    } else if (open) {
      all.back().count *= size;
      inner *= size;
    } else {
      all.push_back({outer, size, inner});
      inner *= size;
      open = true;
    }
  }
  return all;
}

// x after the first `count` repeats.
Tensor repeat(Tensor x, std::span<const Repeat> repeats) {
  for (const Repeat& r : repeats) {
    Tensor y = empty(r.repeated(), x.dtype(), x.device());
    sum_backward(x.reshape(r.once()), 1.0, y);
    x = y;
  }
  return x;
}

Tensor empty_wide(const Shape& shape, const Tensor& like) { return empty(shape, wide_dtype(like), like.device()); }

// factor * the sums of x over the repeats, the outermost repeat first, in float32 or float64. Without repeats: x.
Tensor sum_repeats(Tensor x, std::span<const Repeat> repeats, double factor) {
  for (std::size_t i = repeats.size(); i-- > 0;) {
    Tensor y = empty_wide(repeats[i].once(), x);
    sum_forward(x.reshape(repeats[i].repeated()), i == 0 ? factor : 1.0, y);
    x = y;
  }
  return x;
}

}  // namespace

Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  std::array<std::int64_t, Shape::max_rank> sizes{};
  const int rank = std::max(a.rank(), b.rank());
  for (int axis = -1; axis >= -rank; --axis) {
    const std::int64_t from_a = -axis <= a.rank() ? a[axis] : 1, from_b = -axis <= b.rank() ? b[axis] : 1;
    require<ShapeError>(from_a == from_b || from_a == 1 || from_b == 1, op, ": expected shapes that are equal or broadcast, got ", a, " and ", b);
    sizes[static_cast<std::size_t>(rank + axis)] = from_a == 1 ? from_b : from_a;
  }
  return Shape(std::span<const std::int64_t>(sizes.data(), static_cast<std::size_t>(rank)));
}

Tensor combine(std::string_view op, const PairKernel& kernel, const Tensor& a, const Tensor& b) {
  require_floating(op, a);
  require_weight(op, "b", b, a);
  const Shape shape = broadcast_shape(op, a.shape(), b.shape());
  Tensor y = empty(shape, a.dtype() == DType::BFloat16 ? b.dtype() : a.dtype(), a.device());
  if (a.shape() == b.shape()) {
    kernel(a, b, y);
    return y;
  }
  std::vector<Repeat> a_repeats = repeats_between(a.shape(), shape), b_repeats = repeats_between(b.shape(), shape);
  Tensor u = a.detach(), v = b.detach();
  if (!a_repeats.empty() && !b_repeats.empty()) {
    u = repeat(u, a_repeats);
    a_repeats.clear();
  }
  if (a_repeats.empty() && b_repeats.empty()) {
    Tensor out = y;
    kernel(u.reshape(shape), v.reshape(shape), out);
    return y;
  }
  std::vector<Repeat>& repeats = a_repeats.empty() ? b_repeats : a_repeats;
  Tensor &full = a_repeats.empty() ? u : v, &repeated = a_repeats.empty() ? v : u;
  const Repeat last = repeats.back();
  repeats.pop_back();
  full = full.reshape(last.repeated());
  repeated = repeat(repeated, repeats).reshape(last.once());
  Tensor out = y.reshape(last.repeated());
  kernel(u, v, out);
  return y;
}

Operand::Operand(const Tensor& x, const Shape& y_shape)
    : shape_(x.shape()), y_shape_(y_shape), dtype_(x.dtype()), wants_grad_(x.wants_grad()) {}

Tensor Operand::finished(const Tensor& sums) const {
  const Tensor gradient = cast(sums, dtype_);
  return gradient.shape() == shape_ ? gradient : gradient.reshape(shape_);
}

Tensor Operand::gradient(const Tensor& g, double factor) const {
  if (!wants_grad_) return {};
  if (!repeats()) return finished(factor == 1 ? g : scale(g, factor));
  return finished(sum_repeats(g, repeats_between(shape_, y_shape_), factor));
}

Tensor Operand::gradient_of_product(const Tensor& u, const Tensor& v) const {
  if (!wants_grad_) return {};
  if (!repeats()) return finished(combine("multiply", multiply_forward, u, v));
  return finished(sum_of_products(u, repeat(v.detach(), repeats_between(v.shape(), y_shape_))));
}

Tensor Operand::sum_of_products(const Tensor& u, const Tensor& v) const {
  std::vector<Repeat> repeats = repeats_between(shape_, y_shape_);
  const Repeat last = repeats.back();
  repeats.pop_back();
  Tensor sums = empty_wide(last.once(), u);
  sum_products(u.detach().reshape(last.repeated()), v.detach().reshape(last.repeated()), sums);
  return sum_repeats(sums, repeats, 1.0).reshape(shape_);
}

}  // namespace mblm
