#pragma once
#include "engine/autograd.h"

namespace mblm {

// y = x sigmoid(x). Any shape and floating dtype. Keeps x. Throws DTypeError.
Tensor silu(const Tensor& x);
extern Kernel<void(const Tensor& x, Tensor& y)> silu_forward;
extern Kernel<void(const Tensor& x, const Tensor& dy, Tensor& dx)> silu_backward;

// y = x silu(z), elementwise: the gate of the Mamba blocks. x, z and y have one shape and floating dtype. dx = dy silu(z),
// dz = dy x silu'(z). Keeps x and z. Throws ShapeError, DTypeError.
Tensor silu_gate(const Tensor& x, const Tensor& z);
extern Kernel<void(const Tensor& x, const Tensor& z, Tensor& y)> silu_gate_forward;
extern Kernel<void(const Tensor& x, const Tensor& z, const Tensor& dy, Tensor& dx, Tensor& dz)> silu_gate_backward;

}  // namespace mblm
