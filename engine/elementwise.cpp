#include "engine/elementwise.h"

namespace mblm {

constinit Kernel<void(Tensor&, const Tensor&)> accumulate{"accumulate"};
constinit Kernel<void(Tensor&, double)> fill{"fill"};
constinit Kernel<void(const Tensor&, Tensor&)> convert{"convert"};

}  // namespace mblm
