// Lends CPU kernels to an emulated CUDA device.
#pragma once

namespace mblm::testing {

// Fills each slot that has no CUDA kernel with one that runs the CPU's kernel on the device's memory, in the order of the compute stream.
// Tests of the runtime then need no CUDA kernels. Returns the number of slots that were filled.
int lend_cpu_kernels();

}  // namespace mblm::testing
