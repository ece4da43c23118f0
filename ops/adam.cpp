#include "ops/adam.h"

namespace mblm {

constinit Kernel<void(const Tensor&, const Tensor&, const GradientNormOptions&, Tensor&)> gradient_norm{"gradient_norm"};
constinit Kernel<void(Tensor&, const Tensor&, Tensor&, Tensor&, Tensor&, const Tensor&, const AdamOptions&, Tensor&)> adam_step{"adam_step"};
constinit Kernel<void(const Tensor&, const Tensor&, Tensor&)> segment_means{"segment_means"};

}  // namespace mblm
