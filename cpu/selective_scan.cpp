#include "ops/selective_scan.h"

#include <cmath>

#include "cpu/kernel.h"
#include "cpu/simd_math.h"

namespace mblm {
namespace {

// A unit of work is a chunk of tokens of a group of 16 channels of one sequence: lanes run across channels, and the states
// of a channel, which do not see each other, are gone through one after the other, each over all tokens of the chunk. Then
// a state's h is one vector, its histories fit in the L1 cache, and no sum runs across lanes but those of db and dc.
constexpr std::int64_t lanes = 16;
constexpr std::int64_t chunk = selective_scan_chunk;

template <class T> using Lanes = T[lanes];

struct Sizes {
  explicit Sizes(const SelectiveScanInputs& in)
      : sequences(in.x.size(0)), tokens(in.x.size(1)), channels(in.x.size(2)), states(in.a_log.size(1)), groups(tile_count(channels, lanes)),
        chunks(tile_count(tokens, chunk)) {}
  std::int64_t width(std::int64_t group) const { return std::min(lanes, channels - group * lanes); }
  std::int64_t tokens_of(std::int64_t k) const { return std::min(chunk, tokens - k * chunk); }
  // Where the states of a group of channels begin in a (B, C, S) tensor, and in the chunk states (B, chunks - 1, C, S).
  std::int64_t state_offset(std::int64_t sequence, std::int64_t group) const { return (sequence * channels + group * lanes) * states; }
  std::int64_t chunk_state_offset(std::int64_t sequence, std::int64_t k, std::int64_t group) const {
    return ((sequence * (chunks - 1) + k - 1) * channels + group * lanes) * states;
  }
  std::int64_t sequences, tokens, channels, states, groups, chunks;
};

// A = -exp(A_log) by groups: (groups, S, lanes), 0 in lanes without a channel.
template <class T>
Tensor grouped_rates(const Tensor& a_log, const Sizes& sizes) {
  Tensor rates = zeros(Shape{sizes.groups, sizes.states, lanes}, a_log.dtype());
  const T* from = a_log.data<T>();
  T* to = rates.data<T>();
  for (std::int64_t c = 0; c < sizes.channels; ++c)
    for (std::int64_t s = 0; s < sizes.states; ++s) to[(c / lanes * sizes.states + s) * lanes + c % lanes] = -std::exp(from[c * sizes.states + s]);
  return rates;
}

// `rows` rows of `width` channels, `stride` apart, to rows of all lanes and back. Lanes without a channel hold zeros.
template <class T>
void load_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t width, Lanes<T>* to) {
  for (std::int64_t t = 0; t < rows; ++t) {
    if (width < lanes) std::fill_n(to[t], lanes, T(0));
    std::copy_n(from + t * stride, width, to[t]);
  }
}
template <class T>
void store_rows(const Lanes<T>* from, std::int64_t rows, std::int64_t width, T* to, std::int64_t stride) {
  for (std::int64_t t = 0; t < rows; ++t) std::copy_n(from[t], width, to + t * stride);
}

// State s of a group of channels in a (C, S) array; zeros where there is no array.
template <class T>
void load_state(const T* from, std::int64_t states, std::int64_t s, std::int64_t width, Lanes<T>& h) {
  for (std::int64_t i = 0; i < lanes; ++i) h[i] = from != nullptr && i < width ? from[i * states + s] : T(0);
}
template <class T>
void store_state(const Lanes<T>& h, std::int64_t states, std::int64_t s, std::int64_t width, T* to) {
  for (std::int64_t i = 0; i < width; ++i) to[i * states + s] = h[i];
}

// What both directions read of a chunk; dtx = dt x.
template <class T>
struct ChunkInputs {
  alignas(64) Lanes<T> x[chunk], dt[chunk], dtx[chunk];

  void load(const T* x_rows, const T* dt_rows, std::int64_t stride, std::int64_t rows, std::int64_t width) {
    load_rows(x_rows, stride, rows, width, x);
    load_rows(dt_rows, stride, rows, width, dt);
    for (std::int64_t t = 0; t < rows; ++t)
      for (std::int64_t i = 0; i < lanes; ++i) dtx[t][i] = dt[t][i] * x[t][i];
  }
};

// One state over a chunk: h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t += C_t h_t. b and c point to this state's entry of
// the first token, S apart.
template <class T>
void scan_state(const ChunkInputs<T>& in, std::int64_t rows, const T* a, const T* b, const T* c, std::int64_t states, Lanes<T>& h, Lanes<T>* y) {
  alignas(64) T now[lanes];
  std::copy_n(h, lanes, now);
  for (std::int64_t t = 0; t < rows; ++t) {
    const T bt = b[t * states], ct = c[t * states];
#pragma omp simd
    for (std::int64_t i = 0; i < lanes; ++i) {
      now[i] = fast_exp(in.dt[t][i] * a[i]) * now[i] + in.dtx[t][i] * bt;
      y[t][i] += now[i] * ct;
    }
  }
  std::copy_n(now, lanes, h);
}

template <class T>
class Forward {
 public:
  Forward(const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state)
      : sizes_(in), rates_of_(grouped_rates<T>(in.a_log, sizes_)), x_(in.x.data<T>()), dt_(in.dt.data<T>()), b_(in.b.data<T>()), c_(in.c.data<T>()),
        d_(in.d.data<T>()), initial_(in.initial.defined() ? in.initial.data<T>() : nullptr), y_(y.data<T>()),
        chunk_states_(chunk_states.defined() ? chunk_states.data<T>() : nullptr), final_(final_state.defined() ? final_state.data<T>() : nullptr) {}

  // Units of a group of channels of one sequence; a tile holds at least 512 tokens, so that short sequences share tiles.
  void run() {
    const std::int64_t units = sizes_.sequences * sizes_.groups, units_per_tile = std::max<std::int64_t>(1, 512 / std::max<std::int64_t>(1, sizes_.tokens));
    parallel_tiles(units, units_per_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t unit = begin; unit < end; ++unit) run_unit(unit / sizes_.groups, unit % sizes_.groups);
    });
  }

 private:
  void run_unit(std::int64_t sequence, std::int64_t group) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states;
    alignas(64) Lanes<T> h[selective_scan_max_states];
    const T* initial = initial_ == nullptr ? nullptr : initial_ + sizes_.state_offset(sequence, group);
    for (std::int64_t s = 0; s < states; ++s) load_state(initial, states, s, width, h[s]);
    for (std::int64_t k = 0; k < sizes_.chunks; ++k) {
      if (k > 0 && chunk_states_ != nullptr) {
        T* to = chunk_states_ + sizes_.chunk_state_offset(sequence, k, group);
        for (std::int64_t s = 0; s < states; ++s) store_state(h[s], states, s, width, to);
      }
      run_chunk(sequence, group, k, h);
    }
    if (final_ == nullptr) return;
    for (std::int64_t s = 0; s < states; ++s) store_state(h[s], states, s, width, final_ + sizes_.state_offset(sequence, group));
  }

  void run_chunk(std::int64_t sequence, std::int64_t group, std::int64_t k, Lanes<T>* h) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, rows = sizes_.tokens_of(k), token = sequence * sizes_.tokens + k * chunk;
    const std::int64_t offset = token * sizes_.channels + group * lanes;
    ChunkInputs<T> in;
    in.load(x_ + offset, dt_ + offset, sizes_.channels, rows, width);
    alignas(64) Lanes<T> y[chunk];
    alignas(64) T d[lanes] = {};
    std::copy_n(d_ + group * lanes, width, d);
    for (std::int64_t t = 0; t < rows; ++t)
      for (std::int64_t i = 0; i < lanes; ++i) y[t][i] = d[i] * in.x[t][i];
    const T* rates = rates_of_.template data<T>() + group * states * lanes;
    for (std::int64_t s = 0; s < states; ++s)
      scan_state(in, rows, rates + s * lanes, b_ + token * states + s, c_ + token * states + s, states, h[s], y);
    store_rows(y, rows, width, y_ + offset, sizes_.channels);
  }

  const Sizes sizes_;
  const Tensor rates_of_;
  const T *x_, *dt_, *b_, *c_, *d_, *initial_;
  T *y_, *chunk_states_, *final_;
};

// The histories of one state over a chunk: decay[t] = exp(dt_t A), h[t] before token t.
template <class T>
struct StateHistory {
  alignas(64) Lanes<T> decay[chunk], h[chunk + 1];

  void compute(const ChunkInputs<T>& in, std::int64_t rows, const T* a, const T* b, std::int64_t states) {
    for (std::int64_t t = 0; t < rows; ++t) {
      const T bt = b[t * states];
#pragma omp simd
      for (std::int64_t i = 0; i < lanes; ++i) {
        decay[t][i] = fast_exp(in.dt[t][i] * a[i]);
        h[t + 1][i] = decay[t][i] * h[t][i] + in.dtx[t][i] * bt;
      }
    }
  }
};

// The gradients of a chunk's rows: dy comes in; drive = sum_s dh B and ddt = sum_s dh A exp(dt A) h_{t-1} are summed over the states.
template <class T>
struct ChunkGradients {
  alignas(64) Lanes<T> dy[chunk], drive[chunk], ddt[chunk];
};

// One state backward over a chunk. dh comes in as what the later tokens give to h after the chunk, and goes out as the same
// before it. Adds to da (lanes), and leaves dh_t dt_t x_t in past.decay[t] and dy_t h_t in past.h[t + 1], whose sums over the
// channels are the gradients of B_t and C_t.
template <class T>
void scan_state_back(const ChunkInputs<T>& in, std::int64_t rows, const T* a, const T* b, const T* c, std::int64_t states, StateHistory<T>& past,
                     ChunkGradients<T>& grad, Lanes<T>& dh, Lanes<T>& da) {
  alignas(64) T carry[lanes], sum[lanes] = {};
  std::copy_n(dh, lanes, carry);
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const T bt = b[t * states], ct = c[t * states];
#pragma omp simd
    for (std::int64_t i = 0; i < lanes; ++i) {
      const T dy = grad.dy[t][i], dht = carry[i] + dy * ct;
      carry[i] = past.decay[t][i] * dht;
      const T through = carry[i] * past.h[t][i];  // d / d(dt A)
      grad.drive[t][i] += dht * bt;
      grad.ddt[t][i] += through * a[i];
      sum[i] += through * in.dt[t][i];
      past.decay[t][i] = dht * in.dtx[t][i];
      past.h[t + 1][i] *= dy;
    }
  }
  std::copy_n(carry, lanes, dh);
#pragma omp simd
  for (std::int64_t i = 0; i < lanes; ++i) da[i] += sum[i];
}

// out[t stride] += sum of the lanes of row t.
template <class T>
void add_lane_sums(const Lanes<T>* from, std::int64_t rows, T* out, std::int64_t stride) {
  for (std::int64_t t = 0; t < rows; ++t) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < lanes; ++i) sum += from[t][i];
    out[t * stride] += sum;
  }
}

// Tiles are a range of sequences times a block of groups of channels. The gradients of b and c are sums over channels: each
// block keeps its partial sums. Those of A_log and D are sums over tokens: each range of sequences keeps its own.
struct BackwardTiles {
  explicit BackwardTiles(const Sizes& sizes) {
    // At most 16 blocks, and not more memory for the partial sums of b and c than x takes.
    const std::int64_t channels = std::max({std::int64_t{64}, 2 * sizes.states, tile_count(sizes.channels, 16)});
    groups_per_block = tile_count(channels, lanes);
    blocks = tile_count(sizes.groups, groups_per_block);
    sequences_per_range = std::max<std::int64_t>(1, tile_count(sizes.sequences, 16));
    ranges = tile_count(sizes.sequences, sequences_per_range);
  }
  std::int64_t groups_per_block, blocks, sequences_per_range, ranges;
};

template <class T>
class Backward {
 public:
  Backward(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out)
      : sizes_(in), tiles_(sizes_), out_(out), rates_of_(grouped_rates<T>(in.a_log, sizes_)),
        db_of_(zeros(Shape{tiles_.blocks, in.b.numel()}, dy.dtype())), dc_of_(zeros(Shape{tiles_.blocks, in.c.numel()}, dy.dtype())),
        da_of_(zeros(Shape{tiles_.ranges, rates_of_.numel()}, dy.dtype())), dd_of_(zeros(Shape{tiles_.ranges, sizes_.groups * lanes}, dy.dtype())),
        x_(in.x.data<T>()), dt_(in.dt.data<T>()), b_(in.b.data<T>()), c_(in.c.data<T>()), d_(in.d.data<T>()),
        initial_(in.initial.defined() ? in.initial.data<T>() : nullptr), chunk_states_(chunk_states.data<T>()), dy_(dy.data<T>()),
        dfinal_(dfinal.defined() ? dfinal.data<T>() : nullptr), dx_(out.dx.data<T>()), ddt_(out.ddt.data<T>()),
        dinitial_(out.dinitial.defined() ? out.dinitial.data<T>() : nullptr) {}

  void run() {
    parallel_tiles(tiles_.ranges * tiles_.blocks, 1, [&](std::int64_t tile, std::int64_t, std::int64_t) {
      const std::int64_t range = tile / tiles_.blocks, block = tile % tiles_.blocks;
      const std::int64_t first = range * tiles_.sequences_per_range, last = std::min(sizes_.sequences, first + tiles_.sequences_per_range);
      const std::int64_t group = block * tiles_.groups_per_block, last_group = std::min(sizes_.groups, group + tiles_.groups_per_block);
      for (std::int64_t sequence = first; sequence < last; ++sequence)
        for (std::int64_t g = group; g < last_group; ++g) run_unit(sequence, g, range, block);
    });
    add_partials(db_of_, out_.db.data<T>(), 0.0f);
    add_partials(dc_of_, out_.dc.data<T>(), 0.0f);
    finish_weights();
  }

 private:
  void run_unit(std::int64_t sequence, std::int64_t group, std::int64_t range, std::int64_t block) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, offset = sizes_.state_offset(sequence, group);
    alignas(64) Lanes<T> dh[selective_scan_max_states];
    for (std::int64_t s = 0; s < states; ++s) load_state(dfinal_ == nullptr ? nullptr : dfinal_ + offset, states, s, width, dh[s]);
    for (std::int64_t k = sizes_.chunks - 1; k >= 0; --k) run_chunk(sequence, group, k, range, block, dh);
    if (dinitial_ == nullptr) return;
    for (std::int64_t s = 0; s < states; ++s) store_state(dh[s], states, s, width, dinitial_ + offset);
  }

  const T* state_before(std::int64_t sequence, std::int64_t group, std::int64_t k) const {
    if (k > 0) return chunk_states_ + sizes_.chunk_state_offset(sequence, k, group);
    return initial_ == nullptr ? nullptr : initial_ + sizes_.state_offset(sequence, group);
  }

  void run_chunk(std::int64_t sequence, std::int64_t group, std::int64_t k, std::int64_t range, std::int64_t block, Lanes<T>* dh) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, rows = sizes_.tokens_of(k), token = sequence * sizes_.tokens + k * chunk;
    const std::int64_t offset = token * sizes_.channels + group * lanes;
    ChunkInputs<T> in;
    ChunkGradients<T> grad;
    in.load(x_ + offset, dt_ + offset, sizes_.channels, rows, width);
    load_rows(dy_ + offset, sizes_.channels, rows, width, grad.dy);
    std::fill_n(grad.drive[0], rows * lanes, T(0));
    std::fill_n(grad.ddt[0], rows * lanes, T(0));
    const T *rates = rates_of_.template data<T>() + group * states * lanes, *before = state_before(sequence, group, k);
    auto* da = reinterpret_cast<Lanes<T>*>(da_of_.template data<T>()) + (range * sizes_.groups + group) * states;
    for (std::int64_t s = 0; s < states; ++s) {
      const T *a = rates + s * lanes, *b = b_ + token * states + s, *c = c_ + token * states + s;
      StateHistory<T> past;
      load_state(before, states, s, width, past.h[0]);
      past.compute(in, rows, a, b, states);
      scan_state_back(in, rows, a, b, c, states, past, grad, dh[s], da[s]);
      const std::int64_t partial = (block * sizes_.sequences * sizes_.tokens + token) * states + s;
      add_lane_sums(past.decay, rows, db_of_.template data<T>() + partial, states);
      add_lane_sums(past.h + 1, rows, dc_of_.template data<T>() + partial, states);
    }
    finish_chunk(in, grad, rows, group, dd_of_.template data<T>() + (range * sizes_.groups + group) * lanes);
    store_rows(grad.drive, rows, width, dx_ + offset, sizes_.channels);
    store_rows(grad.ddt, rows, width, ddt_ + offset, sizes_.channels);
  }

  // dx = D dy + dt drive, in place of drive; ddt += x drive; dD = sum_t dy x.
  void finish_chunk(const ChunkInputs<T>& in, ChunkGradients<T>& grad, std::int64_t rows, std::int64_t group, T* dd) const {
    alignas(64) T d[lanes] = {}, sum[lanes] = {};
    std::copy_n(d_ + group * lanes, sizes_.width(group), d);
    for (std::int64_t t = 0; t < rows; ++t) {
#pragma omp simd
      for (std::int64_t i = 0; i < lanes; ++i) {
        sum[i] += grad.dy[t][i] * in.x[t][i];
        grad.ddt[t][i] += in.x[t][i] * grad.drive[t][i];
        grad.drive[t][i] = d[i] * grad.dy[t][i] + in.dt[t][i] * grad.drive[t][i];
      }
    }
    for (std::int64_t i = 0; i < lanes; ++i) dd[i] += sum[i];
  }

  // Sums over the ranges of sequences, back from groups to channels; dA_log = dA A.
  void finish_weights() {
    Tensor da = empty(rates_of_.shape(), rates_of_.dtype()), dd = empty(Shape{sizes_.groups * lanes}, rates_of_.dtype());
    add_partials(da_of_, da.data<T>(), 0.0f);
    add_partials(dd_of_, dd.data<T>(), 0.0f);
    const T *pa = da.data<T>(), *rates = rates_of_.template data<T>(), *pd = dd.data<T>();
    T *to_a = out_.da_log.template data<T>(), *to_d = out_.dd.template data<T>();
    for (std::int64_t c = 0; c < sizes_.channels; ++c) {
      to_d[c] = (out_.beta_d == 0 ? T(0) : to_d[c]) + pd[c];
      for (std::int64_t s = 0; s < sizes_.states; ++s) {
        const std::int64_t from = (c / lanes * sizes_.states + s) * lanes + c % lanes, to = c * sizes_.states + s;
        to_a[to] = (out_.beta_a_log == 0 ? T(0) : to_a[to]) + pa[from] * rates[from];
      }
    }
  }

  const Sizes sizes_;
  const BackwardTiles tiles_;
  SelectiveScanGradients& out_;
  const Tensor rates_of_;
  Tensor db_of_, dc_of_, da_of_, dd_of_;  // partial sums: (blocks, B T S) twice, (ranges, groups S lanes), (ranges, groups lanes)
  const T *x_, *dt_, *b_, *c_, *d_, *initial_, *chunk_states_, *dy_, *dfinal_;
  T *dx_, *ddt_, *dinitial_;
};

void forward(const Tensor& x, const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state) {
  for_real_type("selective_scan_forward", x.dtype(), [&]<class T>() { Forward<T>(in, y, chunk_states, final_state).run(); });
}

void backward(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out) {
  for_real_type("selective_scan_backward", dy.dtype(), [&]<class T>() { Backward<T>(dy, dfinal, in, chunk_states, out).run(); });
}

const bool added = add_cpu_kernel(selective_scan_forward, forward) && add_cpu_kernel(selective_scan_backward, backward);

}  // namespace
}  // namespace mblm
