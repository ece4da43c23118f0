// Rows in registers, for norms and softmax: a team of warps holds one row, `lane_elements` of it per lane.
#pragma once

#include "cuda/kernel.h"

namespace mblm::cuda {

inline constexpr int norm_threads = 256, norm_warps = norm_threads / warp_size;
// 32 elements per lane: a warp holds 1024 of a row, and a backward pass that holds x, dy and two sums fits 255 registers.
inline constexpr int lane_elements = 32;
inline constexpr int warp_elements = warp_size * lane_elements;

// Runs f.operator()<warps>() with the number of warps that hold a row of `width` elements (1, 2, 4 or 8). False, without running f,
// for longer rows, and for rows whose packs of N elements are not whole.
template <int N, class F>
bool for_team_size(std::int64_t width, F&& f) {
  if (width % N != 0 || width > norm_warps * warp_elements) return false;
  if (width <= warp_elements)
    f.template operator()<1>();
  else if (width <= 2 * warp_elements)
    f.template operator()<2>();
  else if (width <= 4 * warp_elements)
    f.template operator()<4>();
  else
    f.template operator()<8>();
  return true;
}

// Rows of a block that sums over its rows, a multiple of its number of teams: at most 512 blocks, so that the partial sums stay below
// 2 % of the data at the published sizes (49152 rows) while every multiprocessor has work. Depends on the shape only.
inline std::int64_t rows_of_block(std::int64_t rows, int teams) { return std::max<std::int64_t>(1, divide_up(divide_up(rows, 512), teams)) * teams; }

#if defined(__CUDACC__) || defined(EMULATED_CUDA)

// N neighbouring elements in registers, read and written in accesses of at most 16 bytes.
template <class T, int N>
struct Elements {
  static constexpr int per_access = N * static_cast<int>(sizeof(T)) <= 16 ? N : 16 / static_cast<int>(sizeof(T));
  Pack<T, per_access> pack[N / per_access];

  __device__ __forceinline__ void read(const T* p) {
#pragma unroll
    for (int k = 0; k < N / per_access; ++k) pack[k] = reinterpret_cast<const Pack<T, per_access>*>(p)[k];
  }
  __device__ __forceinline__ float operator[](int j) const { return to_float(pack[j / per_access].v[j % per_access]); }
};
template <int N, class T>
__device__ __forceinline__ void write_elements(T* p, const float (&values)[N]) {
  constexpr int per_access = Elements<T, N>::per_access;
#pragma unroll
  for (int k = 0; k < N / per_access; ++k) {
    float part[per_access];
#pragma unroll
    for (int j = 0; j < per_access; ++j) part[j] = values[k * per_access + j];
    write_pack<per_access>(p + k * per_access, part);
  }
}

// The team of the calling thread, in a block of norm_threads.
template <int warps>
struct RowTeam {
  static constexpr int count = norm_warps / warps;     // teams of a block
  static constexpr int threads = warps * warp_size;
  __device__ static int index() { return static_cast<int>(threadIdx.x) / threads; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % threads; }
  // The first column of the p-th pack of N elements of this lane: neighbouring lanes have neighbouring packs.
  template <int N>
  __device__ static int column(int p) { return (p * threads + lane()) * N; }
};

// Memory for the sums of teams. A sum alternates between two places, so that one barrier per sum is enough: a warp that writes a place
// again has passed the barrier of the sum in between, before which every other warp has read it.
template <int values>
struct TeamSums {
  float part[2][norm_warps][values];
};

struct TeamSum {
  __device__ static float over_warp(float x) { return warp_sum(x); }
  __device__ static float of(float a, float b) { return a + b; }
};
struct TeamMax {
  __device__ static float over_warp(float x) { return warp_max(x); }
  __device__ static float of(float a, float b) { return b > a ? b : a; }
};

// x[v] = the sum (or maximum) of x[v] over the team, in every lane; the order of the operations is fixed. All threads of the block call it,
// with round = 0, 1, 2, ... from call to call.
template <int warps, class Join, int values>
__device__ __forceinline__ void join_team(float (&x)[values], TeamSums<values>& shared, int round) {
#pragma unroll
  for (int v = 0; v < values; ++v) x[v] = Join::over_warp(x[v]);
  if constexpr (warps > 1) {
    auto& part = shared.part[round % 2];
    const int warp = static_cast<int>(threadIdx.x) / warp_size, first = warp / warps * warps;
    if (threadIdx.x % warp_size == 0) {
#pragma unroll
      for (int v = 0; v < values; ++v) part[warp][v] = x[v];
    }
    __syncthreads();
#pragma unroll
    for (int v = 0; v < values; ++v) {
      x[v] = part[first][v];
#pragma unroll
      for (int w = 1; w < warps; ++w) x[v] = Join::of(x[v], part[first + w][v]);
    }
  }
}
template <int warps, int values>
__device__ __forceinline__ void team_sums(float (&x)[values], TeamSums<values>& shared, int round) {
  join_team<warps, TeamSum>(x, shared, round);
}

// out[column] = the sum of `sums` over the teams of the block, added in their order: a partial sum of the block over its rows. The
// teams pass the sums on through `shared`, of `width` elements. All threads of the block call it.
template <int warps, int N>
__device__ __forceinline__ void write_block_sums(const float (&sums)[lane_elements], float* shared, int width, float* out) {
  using Team = RowTeam<warps>;
  for (int team = 0; team < Team::count; ++team) {
    if (team == Team::index()) {
      float* to = team == Team::count - 1 ? out : shared;
#pragma unroll
      for (int p = 0; p < lane_elements / N; ++p) {
        const int column = Team::template column<N>(p);
        if (column < width) {
          float v[N];
#pragma unroll
          for (int j = 0; j < N; ++j) v[j] = sums[p * N + j];
          if (team > 0) {
            Elements<float, N> before;
            before.read(shared + column);
#pragma unroll
            for (int j = 0; j < N; ++j) v[j] += before[j];
          }
          write_elements<N>(to + column, v);
        }
      }
    }
    __syncthreads();
  }
}

#endif

}  // namespace mblm::cuda
