#include "cuda/kernel.h"
#include "cuda/tensor_core.h"
#include "tests/cuda/tensor_core_kernels.h"

namespace mblm::testing {
namespace {

using namespace mblm::cuda;
using Bits = std::uint16_t;

struct Operands {
  alignas(16) Bits a[16][16];
  alignas(16) Bits b[16][16];
};

// Stores the fragments of c (16, 8).
__device__ void store(const float (&c)[4], float* out) {
  const int group = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < 4; ++i) out[(group + 8 * (i / 2)) * 8 + 2 * t + i % 2] = c[i];
}

// One warp. b is (16, 8), or (8, 16) when it is the second factor of a b^T.
template <bool transposed>
__global__ void multiply(const Bits* a, const Bits* b, float* c) {
  Operands& shared = shared_memory<Operands>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += warp_size) shared.a[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += warp_size) {
    if (transposed)
      shared.b[i / 16][i % 16] = b[i];
    else
      shared.b[i / 8][i % 8] = b[i];
  }
  __syncwarp();
  std::uint32_t fragments_of_a[4], fragments_of_b[2];
  float sums[4];
  const int group = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) sums[i] = c[(group + 8 * (i / 2)) * 8 + 2 * t + i % 2];
  ldmatrix_x4(fragments_of_a, &shared.a[lane % 16][lane / 16 * 8]);
  if (transposed)
    ldmatrix_x2(fragments_of_b, &shared.b[lane % 8][lane / 8 % 2 * 8]);
  else
    ldmatrix_x2_trans(fragments_of_b, &shared.b[lane % 16][0]);
  mma_16x8x16(sums, fragments_of_a, fragments_of_b);
  store(sums, c);
}

struct Matrices {
  alignas(16) Bits m[4][8][8];
};

template <int count, bool transposed>
__global__ void load(const Bits* elements, std::uint32_t* registers) {
  Matrices& shared = shared_memory<Matrices>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 64 * count; i += warp_size) shared.m[i / 64][i / 8 % 8][i % 8] = elements[i];
  __syncwarp();
  const void* row = shared.m[lane / 8][lane % 8];
  std::uint32_t r[count];
  if constexpr (count == 4 && transposed)
    ldmatrix_x4_trans(r, row);
  else if constexpr (count == 4)
    ldmatrix_x4(r, row);
  else if constexpr (transposed)
    ldmatrix_x2_trans(r, row);
  else
    ldmatrix_x2(r, row);
  for (int m = 0; m < count; ++m) registers[lane * count + m] = r[m];
}

__global__ void transpose(const std::uint32_t* x, std::uint32_t* y) { y[threadIdx.x] = transpose_8x8(x[threadIdx.x]); }

constexpr int piece = 128;  // floats per group of copies: one warp with 16 bytes per lane

struct Ring {
  alignas(16) float v[3][piece];
};

__device__ void start_copies(Ring& ring, const float* x, int n, int begin, bool wide, int bytes) {
  const int lane = static_cast<int>(threadIdx.x), slot = begin / piece % 3;
  if (begin < n) {
    if (wide)
      copy_async_16(&ring.v[slot][4 * lane], x + begin + 4 * lane, bytes);
    else
      for (int i = lane; i < piece; i += warp_size) copy_async_4(&ring.v[slot][i], x + begin + i, bytes);
  }
  commit_copies();
}

__global__ void copy(const float* x, float* y, int n, bool wide, int bytes) {
  Ring& ring = shared_memory<Ring>();
  const int lane = static_cast<int>(threadIdx.x);
  start_copies(ring, x, n, 0, wide, bytes);
  start_copies(ring, x, n, piece, wide, bytes);
  for (int begin = 0; begin < n; begin += piece) {
    start_copies(ring, x, n, begin + 2 * piece, wide, bytes);
    wait_copies<2>();
    __syncwarp();
    for (int i = lane; i < piece; i += warp_size) y[begin + i] = ring.v[begin / piece % 3][piece - 1 - i];
    __syncwarp();
  }
  wait_copies<0>();
}

// Memory of the device for a host array.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n) : bytes_(n * sizeof(T)) { check(cudaMalloc(&data_, bytes_)); }
  DeviceArray(const T* values, std::size_t n) : DeviceArray(n) {
    check(cudaMemcpyAsync(data_, values, bytes_, cudaMemcpyHostToDevice, compute_stream()));
  }
  ~DeviceArray() { static_cast<void>(cudaFree(data_)); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* get() { return static_cast<T*>(data_); }
  void read(T* values) {
    check(cudaMemcpyAsync(values, data_, bytes_, cudaMemcpyDeviceToHost, compute_stream()));
    check(cudaStreamSynchronize(compute_stream()));
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

template <bool transposed>
void run_multiply(const Bits* a, const Bits* b, float* c) {
  DeviceArray<Bits> left(a, 256), right(b, 128);
  DeviceArray<float> out(c, 128);
  launch<multiply<transposed>>(1, warp_size, sizeof(Operands), left.get(), right.get(), out.get());
  out.read(c);
}

template <int count, bool transposed>
void run_load(const Bits* elements, std::uint32_t* registers) {
  DeviceArray<Bits> in(elements, 64 * count);
  DeviceArray<std::uint32_t> out(static_cast<std::size_t>(warp_size * count));
  launch<load<count, transposed>>(1, warp_size, sizeof(Matrices), in.get(), out.get());
  out.read(registers);
}

}  // namespace

void multiply_16x8x16(const Bits* a, const Bits* b, float* c) { run_multiply<false>(a, b, c); }
void multiply_transposed(const Bits* a, const Bits* b, float* c) { run_multiply<true>(a, b, c); }

void load_fragments(const Bits* elements, int count, bool transposed, std::uint32_t* registers) {
  if (count == 4)
    transposed ? run_load<4, true>(elements, registers) : run_load<4, false>(elements, registers);
  else
    transposed ? run_load<2, true>(elements, registers) : run_load<2, false>(elements, registers);
}

void transpose_matrix(const Bits* x, Bits* y) {
  DeviceArray<Bits> in(x, 64), out(64);
  launch<transpose>(1, warp_size, 0, reinterpret_cast<const std::uint32_t*>(in.get()), reinterpret_cast<std::uint32_t*>(out.get()));
  out.read(y);
}

void copy_through_shared(const float* x, float* y, int n, bool wide, int bytes) {
  DeviceArray<float> in(x, static_cast<std::size_t>(n)), out(static_cast<std::size_t>(n));
  launch<copy>(1, warp_size, sizeof(Ring), in.get(), out.get(), n, wide, bytes);
  out.read(y);
}

}  // namespace mblm::testing
