#include "ops/rotary.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const RotaryOptions&, Tensor&)> rotary_kernel{"rotary_kernel"};

Tensor rotary(const Tensor& x, RotaryPairs pairs, std::int64_t head_dim, std::int64_t rotated_heads, std::int64_t first_position) {
  require_floating("rotary", x);
  require<ShapeError>(x.rank() == 3, "rotary: expected x (B, T, C), got ", x.shape());
  require<ShapeError>(head_dim >= 2 && head_dim % 2 == 0, "rotary: expected an even head size, got ", head_dim);
  require<ShapeError>(rotated_heads >= 0 && rotated_heads <= x.size(2) / head_dim, "rotary: expected heads within ", x.size(2), " channels, got ",
                      rotated_heads, " of ", head_dim);
  require<ValueError>(first_position >= 0, "rotary: expected a first position >= 0, got ", first_position);
  RotaryOptions options{pairs, head_dim, rotated_heads, first_position, false};
  Tensor y = empty_like(x);
  rotary_kernel(x, options, y);
  options.inverse = true;
  return record("rotary", {x}, y, [options](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(dy);
    rotary_kernel(dy, options, dx);
    return {dx};
  });
}

}  // namespace mblm
