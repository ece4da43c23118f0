#include "ops/rotary.h"

#include <cmath>

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const Tensor&, const RotaryOptions&, Tensor&)> rotary_forward{"rotary_forward"};

namespace {

// The elements of x when nothing else holds them, else new memory.
Tensor reuse(const Tensor& x) { return x.storage_is_unshared() ? x.detach() : empty_like(x); }

}  // namespace

Tensor rotary(Tensor x, const Tensor& inverse_frequencies, RotaryPairs pairs, std::int64_t rotated_heads, const Tensor& positions) {
  require_floating("rotary", x);
  require<ShapeError>(x.rank() == 3, "rotary: expected x of shape (B, T, C), got ", x.shape());
  require_dtype("rotary", "inverse frequencies", inverse_frequencies, DType::Float64);
  require<ShapeError>(inverse_frequencies.rank() == 1 && inverse_frequencies.numel() >= 1,
                      "rotary: expected inverse frequencies of shape (d/2), got ", inverse_frequencies.shape());
  const std::int64_t head_dim = 2 * inverse_frequencies.numel();
  require<ShapeError>(rotated_heads >= 0 && rotated_heads <= x.size(2) / head_dim, "rotary: expected rotated heads within ", x.size(2),
                      " channels, got ", rotated_heads, " heads of ", head_dim, " channels");
  if (positions.defined()) {
    require_dtype("rotary", "positions", positions, DType::Int64);
    require_shape("rotary", "positions", positions, Shape{x.size(0)});
  }
  RotaryOptions options{pairs, rotated_heads, false};
  Tensor y = reuse(x);
  rotary_forward(x, inverse_frequencies, positions, options, y);
  options.inverse = true;
  return record("rotary", {x}, y, [inverse_frequencies, positions, options](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = reuse(dy);
    rotary_forward(dy, inverse_frequencies, positions, options, dx);
    return {dx};
  });
}

Tensor rotary_frequencies(std::int64_t head_dim) {
  require<ShapeError>(head_dim >= 2 && head_dim % 2 == 0, "rotary: expected an even head size of at least 2, got ", head_dim);
  std::vector<double> values;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) values.push_back(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  return from_values<double>(Shape{head_dim / 2}, values);
}

}  // namespace mblm
