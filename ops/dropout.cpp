#include "ops/dropout.h"

#include "ops/check.h"

namespace mblm {

constinit Kernel<void(const Tensor&, double, const RandomStream&, std::uint64_t, Tensor&)> dropout_forward{"dropout_forward"};

Tensor dropout(const Tensor& x, double p, const RandomStream& stream, std::uint64_t first_element) {
  require_floating("dropout", x);
  require<ValueError>(p >= 0 && p < 1, "dropout: expected a probability in [0, 1), got ", p);
  if (p == 0) return x;
  Tensor y = empty_like(x);
  dropout_forward(x, p, stream, first_element, y);
  return record("dropout", {x}, y, [p, stream, first_element](const Tensor& dy) -> std::vector<Tensor> {
    Tensor dx = empty_like(dy);
    dropout_forward(dy, p, stream, first_element, dx);
    return {dx};
  });
}

}  // namespace mblm
