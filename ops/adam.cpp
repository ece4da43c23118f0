#include "ops/adam.h"

namespace mblm {

constinit Kernel<void(const Tensor&, Tensor&, Tensor&)> global_norm{"global_norm"};
constinit Kernel<void(Tensor&, const Tensor&, Tensor&, Tensor&, Tensor&, const Tensor&, const Tensor&, const AdamOptions&)> adam_step{"adam_step"};

}  // namespace mblm
