// The compute streams of programs that have kernels but no backend.
#include <map>

#include "cuda/launch.h"

namespace mblm::cuda {

void check(cudaError_t status, const std::source_location&) { require<DeviceError>(status == cudaSuccess, "cuda: ", cudaGetErrorString(status)); }

cudaStream_t compute_stream() {
  static std::map<int, cudaStream_t> all;  // by device
  int device = 0;
  check(cudaGetDevice(&device));
  if (all.count(device) == 0) check(cudaStreamCreateWithFlags(&all[device], cudaStreamNonBlocking));
  return all[device];
}

}  // namespace mblm::cuda
