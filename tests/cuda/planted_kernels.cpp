#include "tests/cuda/planted_kernels.h"

#include "cuda/kernel.h"
#include "cuda/tensor_core.h"

namespace mblm::testing {
namespace {

using namespace mblm::cuda;

constexpr int threads = 256;

struct Values {
  alignas(16) float v[threads];
};

__device__ int me() { return static_cast<int>(threadIdx.x); }

// ---- found by the access checker

__global__ void missing_barrier(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me()] = x[me()];
  y[me()] = shared.v[threads - 1 - me()];  // here: missing_barrier
}

// A ring without a barrier between reading and the next write.
__global__ void missing_second_barrier(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  float v = x[me()];
  for (int i = 0; i < 4; ++i) {
    shared.v[me()] = v;  // here: missing_second_barrier
    __syncthreads();
    v += 0.5f * shared.v[(me() + 1) % threads];
  }
  y[me()] = v;
}

__global__ void missing_syncwarp(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me()] = x[me()];
  y[me()] = shared.v[me() ^ 1];  // here: missing_syncwarp
}

// Half of the warp waits, and reads what the other half has written.
__global__ void syncwarp_of_half(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me()] = x[me()];
  __syncwarp(me() < 16 ? 0xffffu : 0xffff0000u);
  y[me()] = shared.v[31 - me()];  // here: syncwarp_of_half
}

// A shuffle does not order memory.
__global__ void shuffle_as_barrier(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me()] = x[me()];
  const float sum = warp_sum(x[me()]);
  y[me()] = sum + shared.v[me() ^ 1];  // here: shuffle_as_barrier
}

__global__ void race_between_blocks(float* y) { *y = static_cast<float>(blockIdx.x); }  // here: race_between_blocks

__global__ void race_between_reading_and_writing_blocks(const float* x, float* y) {
  y[blockIdx.x] = x[0];
  if (blockIdx.x == 3) const_cast<float*>(x)[0] = 1;  // here: race_between_reading_and_writing_blocks
}

__global__ void race_with_atomics(float* y) {
  if (me() < 255)
    atomicAdd(y, 1.0f);
  else
    y[0] = 0;  // here: race_with_atomics
}

__global__ void outside_global(float* y) { y[me() + 1] = 1; }  // here: outside_global

__global__ void outside_shared(float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me() + 1] = 1;  // here: outside_shared
  y[me()] = 1;
}

__global__ void misaligned_vector(const float* x, float* y) {
  *reinterpret_cast<Pack<float, 4>*>(y) = *reinterpret_cast<const Pack<float, 4>*>(x + 1);  // here: misaligned_vector
}

__global__ void uninitialized_global(const float* x, float* y) { y[me()] = x[me()] * 2; }  // here: uninitialized_global

__global__ void uninitialized_shared(float* y) {
  Values& shared = shared_memory<Values>();
  y[me()] = shared.v[me()] * 2;  // here: uninitialized_shared
}

__global__ void use_after_free(const float* x, float* y) { y[me()] = x[me()] * 2; }  // here: use_after_free

// ---- asynchronous copies

__global__ void missing_wait(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  copy_async_4(&shared.v[me()], x + me());
  commit_copies();
  y[me()] = shared.v[me()];  // here: missing_wait
  wait_copies<0>();
}

__global__ void missing_barrier_after_wait(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  if (me() < threads / 4) copy_async_16(&shared.v[4 * me()], x + 4 * me());
  commit_copies();
  wait_copies<0>();
  y[me()] = shared.v[me()];  // here: missing_barrier_after_wait
}

__global__ void copies_without_wait(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  copy_async_4(&shared.v[me()], x + me());  // here: copies_without_wait
  commit_copies();
  y[me()] = 0;
}

__global__ void copy_misaligned(const float* x, float* y) {
  Values& shared = shared_memory<Values>();
  copy_async_16(&shared.v[4 * me()], x + 4 * me() + 1);  // here: copy_misaligned
  wait_copies<0>();
  y[me()] = 0;
}

// ---- meetings

__global__ void divergent_barrier(float* y) {
  if (me() < 100) __syncthreads();  // here: divergent_barrier
  y[me()] = 1;
}

__global__ void two_barriers(float* y) {
  if (me() < 128) {
    __syncthreads();
  } else {
    __syncthreads();  // here: two_barriers
  }
  y[me()] = 1;
}

__global__ void barrier_after_return(float* y) {
  if (me() >= 250) return;
  __syncthreads();  // here: barrier_after_return
  y[me()] = 1;
}

__global__ void shuffle_with_exited_lanes(const float* x, float* y) {
  if (me() >= 20) return;
  y[me()] = __shfl_xor_sync(all_lanes, x[me()], 1);  // here: shuffle_with_exited_lanes
}

__global__ void shuffle_outside_mask(const float* x, float* y) {
  if (me() >= 16) return;
  y[me()] = __shfl_sync(0xffffu, x[me()], me() + 1);  // here: shuffle_outside_mask
}

__global__ void shuffle_not_in_mask(const float* x, float* y) {
  y[me()] = __shfl_sync(0xffffu, x[me()], 0);  // here: shuffle_not_in_mask
}

__global__ void two_warp_operations(const float* x, float* y) {
  if (me() < 16)
    y[me()] = __shfl_sync(all_lanes, x[me()], 0);
  else
    y[me()] = __shfl_xor_sync(all_lanes, x[me()], 1);  // here: two_warp_operations
}

// ---- launches

__global__ void too_much_shared_memory(float* y) { y[me()] = 1; }
__global__ void more_shared_memory_than_launched(float* y) {
  Values& shared = shared_memory<Values>();  // here: more_shared_memory_than_launched
  shared.v[me()] = 1;
  y[me()] = 1;
}
__global__ void bad_grid(float* y) { y[me()] = 1; }
__global__ void bad_block(float* y) { y[me()] = 1; }
__global__ void far_outside_shared(float* y) {
  Values& shared = shared_memory<Values>();
  shared.v[me() + 4096] = 1;  // here: far_outside_shared
  y[me()] = 1;
}

}  // namespace

const std::map<std::string, void (*)(Arrays)>& planted_kernels() {
  static const std::map<std::string, void (*)(Arrays)> all = {
      {"missing_barrier", [](Arrays a) { launch<missing_barrier>(1, threads, sizeof(Values), a.x, a.y); }},
      {"missing_second_barrier", [](Arrays a) { launch<missing_second_barrier>(1, threads, sizeof(Values), a.x, a.y); }},
      {"missing_syncwarp", [](Arrays a) { launch<missing_syncwarp>(1, 32, sizeof(Values), a.x, a.y); }},
      {"syncwarp_of_half", [](Arrays a) { launch<syncwarp_of_half>(1, 32, sizeof(Values), a.x, a.y); }},
      {"shuffle_as_barrier", [](Arrays a) { launch<shuffle_as_barrier>(1, 32, sizeof(Values), a.x, a.y); }},
      {"race_between_blocks", [](Arrays a) { launch<race_between_blocks>(4, 1, 0, a.y); }},
      {"race_between_reading_and_writing_blocks", [](Arrays a) { launch<race_between_reading_and_writing_blocks>(4, 1, 0, a.x, a.y); }},
      {"race_with_atomics", [](Arrays a) { launch<race_with_atomics>(1, threads, 0, a.y); }},
      {"outside_global", [](Arrays a) { launch<outside_global>(1, threads, 0, a.y); }},
      {"outside_shared", [](Arrays a) { launch<outside_shared>(1, threads, sizeof(Values), a.y); }},
      {"misaligned_vector", [](Arrays a) { launch<misaligned_vector>(1, 1, 0, a.x, a.y); }},
      {"uninitialized_global", [](Arrays a) { launch<uninitialized_global>(1, threads, 0, a.x, a.y); }},
      {"uninitialized_shared", [](Arrays a) { launch<uninitialized_shared>(1, threads, sizeof(Values), a.y); }},
      {"use_after_free", [](Arrays a) { launch<use_after_free>(1, threads, 0, a.x, a.y); }},
      {"missing_wait", [](Arrays a) { launch<missing_wait>(1, threads, sizeof(Values), a.x, a.y); }},
      {"missing_barrier_after_wait", [](Arrays a) { launch<missing_barrier_after_wait>(1, threads, sizeof(Values), a.x, a.y); }},
      {"copies_without_wait", [](Arrays a) { launch<copies_without_wait>(1, threads, sizeof(Values), a.x, a.y); }},
      {"copy_misaligned", [](Arrays a) { launch<copy_misaligned>(1, 1, sizeof(Values), a.x, a.y); }},
      {"divergent_barrier", [](Arrays a) { launch<divergent_barrier>(1, threads, 0, a.y); }},
      {"two_barriers", [](Arrays a) { launch<two_barriers>(1, threads, 0, a.y); }},
      {"barrier_after_return", [](Arrays a) { launch<barrier_after_return>(1, threads, 0, a.y); }},
      {"shuffle_with_exited_lanes", [](Arrays a) { launch<shuffle_with_exited_lanes>(1, 32, 0, a.x, a.y); }},
      {"shuffle_outside_mask", [](Arrays a) { launch<shuffle_outside_mask>(1, 32, 0, a.x, a.y); }},
      {"shuffle_not_in_mask", [](Arrays a) { launch<shuffle_not_in_mask>(1, 32, 0, a.x, a.y); }},
      {"two_warp_operations", [](Arrays a) { launch<two_warp_operations>(1, 32, 0, a.x, a.y); }},
      {"too_much_shared_memory", [](Arrays a) { launch<too_much_shared_memory>(1, threads, 233 << 10, a.y); }},
      {"more_shared_memory_than_launched", [](Arrays a) { launch<more_shared_memory_than_launched>(1, threads, 128, a.y); }},
      {"bad_grid", [](Arrays a) { launch<bad_grid>(dim3(1, 70000), threads, 0, a.y); }},
      {"bad_block", [](Arrays a) { launch<bad_block>(1, 1025, 0, a.y); }},
      {"far_outside_shared", [](Arrays a) { launch<far_outside_shared>(1, threads, sizeof(Values), a.y); }},
  };
  return all;
}

bool accesses_are_checked() {
#ifdef __SANITIZE_THREAD__
  return true;
#else
  return false;
#endif
}

}  // namespace mblm::testing
