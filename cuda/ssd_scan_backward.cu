#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

// Sixteen warps: 4 groups of 16 rows, and 4 parts of the columns of each product. The sums that a warp keeps for all heads (48 floats per
// thread) then leave room for the rest in 128 registers.
constexpr int threads = 512, warps = threads / warp_size, row_groups = 4, parts = warps / row_groups;
constexpr int token_tiles = chunk_tokens / 8 / parts, width_tiles = tile_width / 8 / parts;  // of 8 columns, per warp

// `usual`: a head is one tile of 64 x 128 with packs, in bfloat16. The inputs of the next head are then copied while one is computed, and
// C B^T and its gradient are in shared memory, for want of registers.
template <class T, bool usual>
struct GradientTiles {
  static constexpr int buffers = usual ? 2 : 1;
  alignas(16) StateTile<T> b, c, h, dh;
  alignas(16) WidthTile<T> x[buffers], dy[buffers], m;  // x: later dx. m: the matrix M, at the end the gradient of C B^T
  alignas(16) float next_h[usual ? tile_width : 1][tile_states_of<T>], next_dh[usual ? tile_width : 1][tile_states_of<T>];
  Decay decay[warps];  // of the next heads: one warp each
  // C B^T and its gradient, each thread's own part; float32 tiles leave no room for them.
  static constexpr bool has_gram = sizeof(T) == 2;
  float gram[has_gram ? 4 * token_tiles : 1][threads], dgram[has_gram ? 4 * token_tiles : 1][threads];
  // Per token, partial sums of the warps that share its row or column.
  float row_pairs[parts][chunk_tokens];      // over j < i of dM_ij M_ij
  float column_pairs[row_groups][chunk_tokens];   // over i > j of dM_ij M_ij
  float column_steps[row_groups][chunk_tokens];   // over i >= j of dM_ij M_ij / dt_j
  float from_state[parts][chunk_tokens];     // dy_i . (a_0 ... a_i h C_i)
  float from_next[parts][chunk_tokens];      // x_j . (dh' B_j)
  float dd[warps], border[warps];        // parts of sum_i dy_i . x_i and of the sum of h o dh'
};

template <class T>
struct GradientArguments {
  Sizes n;
  const T *x, *b, *c, *dy;
  const float *dt, *a_log, *d;
  Borders<const float> h, dh;
  T* dx;
  float *ddt, *db, *dc;   // db, dc: (groups of heads, B, T, S)
  float *da_log, *dd;     // (B chunks, H)
  int heads_per_block;
};

// All gradients but those of the states, for some heads of one chunk. With M_ij = (C_i . B_j) a_{j+1} ... a_i dt_j, dM_ij = dy_i . x_j,
// h the state before the chunk and dh' the gradient of the state after it:
//   dx_j = sum_i M_ij dy_i + D dy_j + w_j dh' B_j,  w_j = a_{j+1} ... a_{q-1} dt_j
//   dgram_ij = sum over heads of dM_ij a_{j+1} ... a_i dt_j
//   dC_i = sum_j dgram_ij B_j + sum over heads of a_0 ... a_i h^T dy_i;  dB_j = sum_i dgram_ij C_i + sum over heads of w_j dh'^T x_j
// A factor a_k gets the gradient of each product that contains it: pairs (i, j) with i >= k > j, parts from h for i >= k, parts into dh'
// for j < k, and h o dh'. Warp w has rows 16 (w mod 4) ... and part w / 4 of the columns of each product. Over the
// heads, C B^T and dgram stay in shared memory (float32: in registers), dB and dC in registers; with more states than a tile has, dB and dC are added to memory that only this thread uses.
// Products take factors rounded to T; their sums and all other arithmetic are float32. Per head and token 2 (3 p q + 4 p S + ...)
// operations; x, dy, dx, h and dh' are read or written once.
template <class T, bool packs, bool usual>
__global__ void __launch_bounds__(threads) gradients(GradientArguments<T> in) {
  constexpr int tile_states = tile_states_of<T>, state_tiles = tile_states / 8 / parts, at_once = 2;
  constexpr int width_row = row_of<T, tile_width>, state_row = row_of<T, tile_states>;
  using Tiles = GradientTiles<T, usual>;
  Tiles& tiles = shared_memory<Tiles>();
  const Sizes& n = in.n;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4, t = lane % 4;
  const std::int64_t groups = (n.heads + in.heads_per_block - 1) / in.heads_per_block, unit = blockIdx.x / groups, head_group = blockIdx.x % groups;
  const std::int64_t sequence = unit / n.chunks, chunk = unit % n.chunks, token = sequence * n.tokens + chunk * chunk_tokens;
  const int first_head = static_cast<int>(head_group) * in.heads_per_block, last_head = static_cast<int>(std::min(n.heads, std::int64_t{first_head} + in.heads_per_block));
  const std::int64_t states_end = usual ? 1 : n.states, width_end = usual ? 1 : n.width;  // at most one tile
  const int q = static_cast<int>(std::min(std::int64_t{chunk_tokens}, n.tokens - chunk * chunk_tokens)), padded_q = round_up_16(q);
  const int first_row = 16 * (warp % row_groups), part_index = warp / row_groups;
  const int token_column = 8 * token_tiles * part_index, width_column = 8 * width_tiles * part_index, state_column = 8 * state_tiles * part_index;
  const int top = first_row + group, bottom = top + 8;
  const bool works = first_row < q, many_states = !usual && n.states > tile_states, many_widths = !usual && n.width > tile_width, one_tile = !many_states && !many_widths;
  const float *h = in.h.before(n, sequence, chunk), *dh = in.dh.after(n, sequence, chunk);

  // Even numbers of tiles of 8 columns that this warp computes.
  const auto tiles_from = [](int columns, int first) { return std::max(0, round_up_16(columns) - first) / 8; };
  const auto states_in = [&](std::int64_t s0) { return static_cast<int>(std::min(std::int64_t{tile_states}, n.states - s0)); };
  const auto load_states = [&](auto& tile, const auto* from, std::int64_t s0, int rows) {
    load_tile<threads>(tile, Part<const std::remove_cvref_t<decltype(*from)>>{from + s0, n.states, rows, states_in(s0), packs});
  };
  const auto load_factors = [&](std::int64_t s0) {
    load_states(tiles.b, in.b + token * n.states, s0, q);
    load_states(tiles.c, in.c + token * n.states, s0, q);
  };
  // Calls f(element of `sum`, address) for the sums of this thread in db or dc.
  const auto for_sums = [&](auto& sum, float* to, std::int64_t s0, auto&& f) {
    to += ((head_group * n.batch * n.tokens) + token) * n.states + s0;
#pragma unroll
    for (int m = 0; m < state_tiles; ++m) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int i = r < 2 ? top : bottom, k = state_column + 8 * m + 2 * t + r % 2;
        if (i < q && k < states_in(s0)) f(sum[m][r], to[i * n.states + k]);
      }
    }
  };
  const auto read_sum = [](float& sum, const float& memory) { sum = memory; };
  const auto write_sum = [](const float& sum, float& memory) { memory = sum; };

  float db[state_tiles][4] = {}, dc[state_tiles][4] = {};
  float gram[token_tiles][4] = {}, dgram[token_tiles][4] = {};
  for (std::int64_t s0 = 0; s0 < states_end; s0 += tile_states) {
    if (s0 > 0) __syncthreads();
    load_factors(s0);
    if (many_states) {
      for_sums(db, in.db, s0, write_sum);
      for_sums(dc, in.dc, s0, write_sum);
    }
    __syncthreads();
    if (works)
      multiply<false, false, state_row, state_row>(gram, &tiles.c[first_row][0], &tiles.b[token_column][0], round_up_16(states_in(s0)), tiles_from(q, token_column));
  }

  if constexpr (Tiles::has_gram) {
#pragma unroll
    for (int k = 0; k < 4 * token_tiles; ++k) {
      tiles.gram[k][threadIdx.x] = gram[k / 4][k % 4];
      tiles.dgram[k][threadIdx.x] = 0;
    }
  }
  const auto gram_at = [&](int m, int r) {
    if constexpr (Tiles::has_gram) return tiles.gram[4 * m + r][threadIdx.x];
    else return gram[m][r];
  };
  const auto dgram_at = [&](int m, int r) -> float& {
    if constexpr (Tiles::has_gram) return tiles.dgram[4 * m + r][threadIdx.x];
    else return dgram[m][r];
  };
  // Starts the copies of the inputs of a head.
  [[maybe_unused]] const auto copy_head = [&](int head) {
    const std::int64_t place = token * n.row() + head * n.width;
    const int width = static_cast<int>(n.width), buffer = (head - first_head) % Tiles::buffers;
    copy_tile<threads>(tiles.x[buffer], Part<const T>{in.x + place, n.row(), q, width, true});
    copy_tile<threads>(tiles.dy[buffer], Part<const T>{in.dy + place, n.row(), q, width, true});
    constexpr int packs_per_row = tile_states / 4;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < width * packs_per_row; i += threads) {
      const int r = i / packs_per_row, k = i % packs_per_row * 4;
      if (k >= static_cast<int>(n.states)) continue;
      const std::int64_t at = (head * n.width + r) * n.states + k;
      if (h != nullptr) copy_async_16(&tiles.next_h[r][k], h + at);
      if (dh != nullptr) copy_async_16(&tiles.next_dh[r][k], dh + at);
    }
    commit_copies();
  };
  if constexpr (usual) copy_head(first_head);

  for (int head = first_head; head < last_head; ++head) {
    const std::int64_t place = token * n.row() + head * n.width;
    auto &x = tiles.x[(head - first_head) % Tiles::buffers], &dy = tiles.dy[(head - first_head) % Tiles::buffers];
    const Decay& decay = tiles.decay[(head - first_head) % warps];
    const auto width_at = [&](std::int64_t p0) { return static_cast<int>(std::min(std::int64_t{tile_width}, n.width - p0)); };
    const auto load_rows = [&](std::int64_t p0) {
      load_tile<threads>(x, Part<const T>{in.x + place + p0, n.row(), q, width_at(p0), packs});
      load_tile<threads>(dy, Part<const T>{in.dy + place + p0, n.row(), q, width_at(p0), packs});
    };

    const auto load_borders = [&](std::int64_t p0, std::int64_t s0) {
      if (h != nullptr) load_states(tiles.h, h + (head * n.width + p0) * n.states, s0, width_at(p0));
      if (dh != nullptr) load_states(tiles.dh, dh + (head * n.width + p0) * n.states, s0, width_at(p0));
    };

    float border = 0;  // part of the sum of h o dh'
    __syncthreads();   // all warps are done with the head before
    if ((head - first_head) % warps == 0 && head + warp < static_cast<int>(n.heads)) find_decay(tiles.decay[warp], n, in.dt, in.a_log, token, q, head + warp);
    if constexpr (usual) {
      wait_copies<0>();
      __syncthreads();
      const int width = static_cast<int>(n.width), states = static_cast<int>(n.states);
#pragma unroll 1
      for (int i = static_cast<int>(threadIdx.x); i < tile_width * tile_states / 8; i += threads) {
        const int r = i / (tile_states / 8), k = i % (tile_states / 8) * 8;
        float from[8] = {}, to[8] = {};
        if (h != nullptr && r < width && k < states) read_8(from, &tiles.next_h[r][k]);
        if (dh != nullptr && r < width && k < states) read_8(to, &tiles.next_dh[r][k]);
        write_8(&tiles.h[r][k], from);
        write_8(&tiles.dh[r][k], to);
#pragma unroll
        for (int e = 0; e < 8; ++e) border += from[e] * to[e];
      }
      __syncthreads();
      if (head + 1 < last_head) copy_head(head + 1);
    }
    float dm[token_tiles][4] = {};
    for (std::int64_t p0 = 0; p0 < width_end; p0 += tile_width) {
      if constexpr (!usual) {
        if (p0 > 0) __syncthreads();
        load_rows(p0);
        if (one_tile) load_borders(0, 0);  // all loads of a head are under way together
        __syncthreads();
      }
      if (works)
        multiply<false, false, width_row, width_row>(dm, &dy[first_row][0], &x[token_column][0], round_up_16(width_at(p0)), tiles_from(q, token_column));
    }

    // M, dgram, and the sums over rows and columns of the triangle.
    float dd = 0, rows[2] = {};
#pragma unroll
    for (int m = 0; m < token_tiles; ++m) {
      float pairs[2] = {}, steps[2] = {};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int i = r < 2 ? top : bottom, j = token_column + 8 * m + 2 * t + r % 2;
        float entry = 0;
        if (works && j <= i) {
          const float kept = decay.between(i, j), dt = decay.dt[j], decayed = dm[m][r] * kept, dot = gram_at(m, r), step = decayed * dot;
          entry = dot * kept * dt;
          dgram_at(m, r) += decayed * dt;
          steps[r % 2] += step;
          if (j < i) {
            pairs[r % 2] += step * dt;
            rows[r / 2] += step * dt;
          } else {
            dd += dm[m][r];
          }
        }
        if (works) tiles.m[i][j] = from_float<T>(entry);
      }
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int bits = 4; bits < warp_size; bits *= 2) {
          pairs[k] += __shfl_xor_sync(all_lanes, pairs[k], bits);
          steps[k] += __shfl_xor_sync(all_lanes, steps[k], bits);
        }
        if (group == 0) {
          tiles.column_pairs[warp % row_groups][token_column + 8 * m + 2 * t + k] = pairs[k];
          tiles.column_steps[warp % row_groups][token_column + 8 * m + 2 * t + k] = steps[k];
        }
      }
    }
    dd = warp_sum(dd);
    if (lane == 0) tiles.dd[warp] = dd;
    // Adds a sum of this warp's part of row `first_row + group` (and 8 below) to `to`, or replaces it.
    const auto store_rows = [&](float(&sum)[2], float* to, bool replace) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        sum[k] += __shfl_xor_sync(all_lanes, sum[k], 1);
        sum[k] += __shfl_xor_sync(all_lanes, sum[k], 2);
        float& total = to[first_row + group + 8 * k];
        if (t == 0) total = replace ? sum[k] : total + sum[k];
      }
    };
    store_rows(rows, tiles.row_pairs[part_index], true);
    __syncthreads();  // M is complete

    for (std::int64_t p0 = 0; p0 < width_end; p0 += tile_width) {
      const int width = width_at(p0), own_width_tiles = tiles_from(width, width_column);
      if (many_widths) {
        __syncthreads();
        load_rows(p0);
        __syncthreads();
      }
      const float factors[2] = {decay.from_start(top), decay.from_start(bottom)};
      // Computed where it is used: two registers more would be spilled.
      const auto weight_at = [&](int r) { return r < 2 ? decay.to_end(top) * decay.dt[top] : decay.to_end(bottom) * decay.dt[bottom]; };
      float dx[width_tiles][4] = {}, from_state[2] = {};
      for (std::int64_t s0 = 0; s0 < states_end && (h != nullptr || dh != nullptr); s0 += tile_states) {
        const int padded_states = round_up_16(states_in(s0)), own_state_tiles = tiles_from(states_in(s0), state_column);
        if (!one_tile) {
          __syncthreads();
          load_borders(p0, s0);
        }
        if (many_states) {
          load_factors(s0);
          for_sums(db, in.db, s0, read_sum);
          for_sums(dc, in.dc, s0, read_sum);
        }
        if (!one_tile) __syncthreads();
        if (!usual && h != nullptr && dh != nullptr) {
          for (int i = static_cast<int>(threadIdx.x); i < tile_width * tile_states / 8; i += threads) {
            const int r = i / (tile_states / 8), k = i % (tile_states / 8) * 8;
            if (r >= width || k >= states_in(s0)) continue;
            float from[8], to[8];
            read_8(from, &tiles.h[r][k]);
            read_8(to, &tiles.dh[r][k]);
#pragma unroll
            for (int e = 0; e < 8; ++e) border += from[e] * to[e];
          }
        }
#pragma unroll
        for (int m = 0; m < state_tiles; m += at_once) {
          if (!works || h == nullptr || m >= own_state_tiles) break;
          float part[at_once][4] = {};
          multiply<false, true, width_row, state_row>(part, &dy[first_row][0], &tiles.h[0][state_column + 8 * m], round_up_16(width), own_state_tiles - m);
#pragma unroll
          for (int k = 0; k < at_once; ++k) {
            if (k >= own_state_tiles - m) break;
#pragma unroll
            for (int r = 0; r < 4; ++r) {
              const float term = factors[r / 2] * part[k][r];
              dc[m + k][r] += term;
              from_state[r / 2] += term * to_float(tiles.c[r < 2 ? top : bottom][state_column + 8 * (m + k) + 2 * t + r % 2]);
            }
          }
        }
        if (works && dh != nullptr) multiply<false, false, state_row, state_row>(dx, &tiles.b[first_row][0], &tiles.dh[width_column][0], padded_states, own_width_tiles);
#pragma unroll
        for (int m = 0; m < state_tiles; m += at_once) {
          if (!works || dh == nullptr || m >= own_state_tiles) break;
          float part[at_once][4] = {};
          multiply<false, true, width_row, state_row>(part, &x[first_row][0], &tiles.dh[0][state_column + 8 * m], round_up_16(width), own_state_tiles - m);
#pragma unroll
          for (int k = 0; k < at_once; ++k) {
#pragma unroll
            for (int r = 0; r < 4; ++r) db[m + k][r] += weight_at(r) * part[k][r];
          }
        }
        if (many_states) {
          for_sums(db, in.db, s0, write_sum);
          for_sums(dc, in.dc, s0, write_sum);
        }
      }
      float from_next[2] = {};
      const float d = in.d[head];
      if (works) {
#pragma unroll
        for (int m = 0; m < width_tiles; ++m) {
          if (m >= own_width_tiles) break;
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            from_next[r / 2] += dx[m][r] * to_float(x[r < 2 ? top : bottom][width_column + 8 * m + 2 * t + r % 2]);
            dx[m][r] *= weight_at(r);
          }
        }
        multiply<true, true, width_row, width_row>(dx, &tiles.m[first_row][first_row], &dy[first_row][width_column], padded_q - first_row, own_width_tiles);
      }
      store_rows(from_state, tiles.from_state[part_index], p0 == 0);
      store_rows(from_next, tiles.from_next[part_index], p0 == 0);
      if (p0 + tile_width >= width_end) {
        border = warp_sum(border);
        if (lane == 0) tiles.border[warp] = border;
      }
      __syncthreads();  // dx replaces x
      if (works) {
#pragma unroll
        for (int m = 0; m < width_tiles; ++m) {
          if (m >= own_width_tiles) break;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const int i = k == 0 ? top : bottom, column = width_column + 8 * m + 2 * t;
            write_2(&x[i][column], dx[m][2 * k] + d * to_float(dy[i][column]), dx[m][2 * k + 1] + d * to_float(dy[i][column + 1]));
          }
        }
      }
      __syncthreads();
      store_tile<threads>(x, 0, Part<T>{in.dx + place + p0, n.row(), q, width, packs});
    }

    // The gradients of log a_k and dt_k, two tokens per lane of a warp.
    if (warp == 0) {
      float own[2], from_next[2], sum_dd = 0, whole = 0;
      for (int w = 0; w < warps; ++w) sum_dd += tiles.dd[w], whole += tiles.border[w];
      whole *= decay.whole();
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int i = 2 * lane + k;
        float columns = 0;
        for (int w = 0; w < row_groups; ++w) columns += tiles.column_pairs[w][i];
        float rows = 0, from_state = 0, next = 0;
        for (int w = 0; w < parts; ++w) rows += tiles.row_pairs[w][i], from_state += tiles.from_state[w][i], next += tiles.from_next[w][i];
        own[k] = (rows - columns) + from_state;
        from_next[k] = decay.to_end(i) * next;
      }
      const float steps[2] = {decay.dt[2 * lane], decay.dt[2 * lane + 1]};
      float after = own[0] + own[1], before = from_next[0] * steps[0] + from_next[1] * steps[1];  // then sums from here on, and up to here
#pragma unroll
      for (int distance = 1; distance < warp_size; distance *= 2) {
        const float next = __shfl_down_sync(all_lanes, after, static_cast<unsigned>(distance)), last = __shfl_up_sync(all_lanes, before, static_cast<unsigned>(distance));
        if (lane + distance < warp_size) after += next;
        if (lane >= distance) before += last;
      }
      float next = __shfl_down_sync(all_lanes, after, 1u), last = __shfl_up_sync(all_lanes, before, 1u);
      if (lane == warp_size - 1) next = 0;
      if (lane == 0) last = 0;
      const float dlog_a[2] = {next + own[1] + own[0] + last + whole, next + own[1] + (last + from_next[0] * steps[0]) + whole};
      const float rate = expf(in.a_log[head]);
      float da_log = 0;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int i = 2 * lane + k;
        float direct = from_next[k];
        for (int w = 0; w < row_groups; ++w) direct += tiles.column_steps[w][i];
        da_log -= rate * dlog_a[k] * steps[k];
        if (i < q) in.ddt[(token + i) * n.heads + head] = direct - rate * dlog_a[k];
      }
      da_log = warp_sum(da_log);
      if (lane == 0) {
        in.da_log[unit * n.heads + head] = da_log;
        in.dd[unit * n.heads + head] = sum_dd;
      }
    }
  }

  __syncthreads();
  if (works) {
#pragma unroll
    for (int m = 0; m < token_tiles; ++m) {
      write_2(&tiles.m[top][token_column + 8 * m + 2 * t], dgram_at(m, 0), dgram_at(m, 1));
      write_2(&tiles.m[bottom][token_column + 8 * m + 2 * t], dgram_at(m, 2), dgram_at(m, 3));
    }
  }
  __syncthreads();
  for (std::int64_t s0 = 0; s0 < states_end; s0 += tile_states) {
    if (many_states) {
      __syncthreads();
      load_factors(s0);
      for_sums(db, in.db, s0, read_sum);
      for_sums(dc, in.dc, s0, read_sum);
      __syncthreads();
    }
    const int own_state_tiles = tiles_from(states_in(s0), state_column);
    if (works) {
      multiply<false, true, width_row, state_row>(dc, &tiles.m[first_row][0], &tiles.b[0][state_column], first_row + 16, own_state_tiles);
      multiply<true, true, width_row, state_row>(db, &tiles.m[first_row][first_row], &tiles.c[first_row][state_column], padded_q - first_row, own_state_tiles);
    }
    if constexpr (packs) {
      const std::int64_t place = ((head_group * n.batch * n.tokens) + token) * n.states + s0;
#pragma unroll
      for (int m = 0; m < state_tiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = half == 0 ? top : bottom, k = state_column + 8 * m + 2 * t;
          if (i >= q || k >= states_in(s0)) continue;
          write_2(in.db + place + i * n.states + k, db[m][2 * half], db[m][2 * half + 1]);
          write_2(in.dc + place + i * n.states + k, dc[m][2 * half], dc[m][2 * half + 1]);
        }
      }
    } else {
      for_sums(db, in.db, s0, write_sum);
      for_sums(dc, in.dc, s0, write_sum);
    }
  }
}

constexpr unsigned add_threads = 256;

// out[i] = sum over the groups of heads of partials[group, i], in order. Memory bound.
template <class T>
__global__ void __launch_bounds__(add_threads) add_groups(const float* partials, std::int64_t groups, std::int64_t elements, T* out) {
  const std::int64_t i = std::int64_t{blockIdx.x} * add_threads + threadIdx.x;
  if (i >= elements) return;
  float sum = 0;
#pragma unroll 4
  for (std::int64_t group = 0; group < groups; ++group) sum += partials[group * elements + i];
  out[i] = from_float<T>(sum);
}

static_assert(sizeof(GradientTiles<bfloat16, true>) <= 227 * 1024);  // the shared memory of sm_90; sm_80 has 163 KB

bool fits_shared_memory(std::size_t bytes) {
  int device = 0, most = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes <= static_cast<std::size_t>(most);
}

template <class T>
void find_gradients(const Sizes& n, const Tensor& dy, const SsdScanInputs& in, const Borders<const float>& h, const Borders<const float>& dh, SsdScanGradients& out) {
  const Device device = dy.device();
  const int heads = heads_per_block(n, 512);
  const std::int64_t groups = divide_up(n.heads, heads), elements = in.b.numel();
  Tensor db = empty(Shape{groups, elements}, DType::Float32, device), dc = empty(Shape{groups, elements}, DType::Float32, device),
         da_log = empty(Shape{n.units(), n.heads}, DType::Float32, device), dd = empty(Shape{n.units(), n.heads}, DType::Float32, device);
  bool packs = n.width % 8 == 0 && n.states % 8 == 0;
  for (const void* p : {raw(in.x), raw(in.b), raw(in.c), raw(dy), raw(out.dx)}) packs = packs && is_aligned(p, 16);
  for (const Borders<const float>* states : {&h, &dh}) packs = packs && is_aligned(states->first, 16) && is_aligned(states->between, 16) && is_aligned(states->last, 16);
  const GradientArguments<T> arguments{n, data<T>(in.x), data<T>(in.b), data<T>(in.c), data<T>(dy), data<float>(in.dt), data<float>(in.a_log), data<float>(in.d), h, dh,
                                       data<T>(out.dx), data<float>(out.ddt), data<float>(db), data<float>(dc), data<float>(da_log), data<float>(dd), heads};
  const auto start = [&]<bool packs_fit, bool usual>() {
    launch<gradients<T, packs_fit, usual>>(blocks_for(n.units() * groups, 1), threads, sizeof(GradientTiles<T, usual>), arguments);
  };
  constexpr bool can_be_usual = sizeof(T) == 2;
  if (can_be_usual && packs && n.states <= tile_states_of<T> && n.width <= tile_width && fits_shared_memory(sizeof(GradientTiles<T, can_be_usual>)))
    start.template operator()<can_be_usual, can_be_usual>();
  else
    start.template operator()<false, false>();  // with packs it would need more registers than a thread has
  launch<add_groups<T>>(blocks_for(elements, add_threads), add_threads, 0, data<float>(db), groups, elements, data<T>(out.db));
  launch<add_groups<T>>(blocks_for(elements, add_threads), add_threads, 0, data<float>(dc), groups, elements, data<T>(out.dc));
  add_head_partials(da_log, out.da_log, out.beta_a_log);
  add_head_partials(dd, out.dd, out.beta_d);
}

void backward(const Tensor& dy, const Tensor& dfinal, const SsdScanInputs& in, const Tensor& chunk_states, SsdScanGradients& out) {
  const Sizes n(in);
  if (!in.initial.defined() && !dfinal.defined() && is_short(n, {&in.x, &in.b, &in.c, &dy, &out.dx, &out.db, &out.dc})) return short_backward(n, dy, in, out);
  for_element_type("ssd_scan_backward", dy.dtype(), [&]<class T>() {
    Tensor between;
    if (n.chunks > 1) between = empty(Shape{n.batch, n.chunks - 1, n.heads, n.width, n.states}, DType::Float32, dy.device());
    float *first = static_cast<float*>(raw(out.dinitial)), *middle = static_cast<float*>(raw(between)), *last = static_cast<float*>(raw(dfinal));
    if (n.chunks > 1 || first != nullptr) find_states(n, true, dy, in.c, in.dt, in.a_log, {first, middle, last});
    const auto* initial = static_cast<const float*>(raw(in.initial));
    find_gradients<T>(n, dy, in, {initial, static_cast<const float*>(raw(chunk_states)), nullptr}, {nullptr, middle, last}, out);
  });
}

const bool added = add_kernel(ssd_scan_backward, backward);

}  // namespace
}  // namespace mblm::cuda::ssd
