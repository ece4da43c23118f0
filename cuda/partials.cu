#include "cuda/partials.h"

namespace mblm::cuda {
namespace {

constexpr int columns = 32, groups = 8;  // a block has 32 columns (one line of 128 bytes per row) and 8 groups of parts

struct Sums {
  float part[groups][columns];
};

// Block (32, 8): thread (c, g) adds every eighth part of column c in order; group 0 then adds the 8 sums in order.
template <class T>
__global__ void __launch_bounds__(columns* groups) sum_parts(const float* partials, std::int64_t parts, std::int64_t width, float beta, T* out) {
  Sums& shared = shared_memory<Sums>();
  const std::int64_t column = std::int64_t{blockIdx.x} * columns + threadIdx.x;
  float sum = 0;
  if (column < width)
    for (std::int64_t part = threadIdx.y; part < parts; part += groups) sum += partials[part * width + column];
  shared.part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int group = 1; group < groups; ++group) sum += shared.part[group][threadIdx.x];
  out[column] = from_float<T>(beta == 0 ? sum : beta * to_float(out[column]) + sum);
}

}  // namespace

void add_partials(const Tensor& partials, Tensor& out, float beta) {
  const std::int64_t parts = partials.size(0), width = partials.size(1);
  for_element_type("add_partials", out.dtype(), [&]<class T>() {
    launch<sum_parts<T>>(blocks_for(width, columns), dim3(columns, groups), sizeof(Sums), data<float>(partials), parts, width, beta, data<T>(out));
  });
}

}  // namespace mblm::cuda
