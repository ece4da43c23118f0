#include "cpu/selective_chunk.h"
#include "ops/selective_scan.h"

namespace mblm::selective {
namespace {

// The histories of one state over a chunk: decay[t] = exp(dt_t A), and h[t], the state before token t.
template <class T>
struct StateHistory {
  ChunkRows<T> decay, h;

  void compute(const ChunkInputs<T>& in, std::int64_t rows, const Lanes<T>& rate, const T* b, std::int64_t states, const Lanes<T>& before) {
    Lanes<T> now = h[0] = before;
    for (std::int64_t t = 0; t < rows; ++t) {
      decay[t] = fast_exp2(in.dt[t] * rate);
      h[t + 1] = now = decay[t] * now + in.dtx[t] * b[t * states];
    }
  }
};

// The gradients of the rows of a chunk: the input dy, and the sums over the states drive = sum_s dh B and
// ddt = sum_s dh exp(dt A) h_{t-1} A / ln 2.
template <class T>
struct ChunkGradients {
  ChunkRows<T> dy, drive, ddt;
};

template <class T>
struct BackwardChunk {
  ChunkInputs<T> in;
  ChunkGradients<T> grad;
  StateHistory<T> past;
};

// Backward of one state over a chunk. On entry dh is the gradient of h after the chunk from the later tokens; on return it is the
// gradient of h before the chunk. Returns dA = sum_t dh exp(dt A) h_{t-1} dt. Overwrites past.decay[t] with dh_t dt_t x_t and
// past.h[t + 1] with dy_t h_t, whose sums over the channels are the gradients of B_t and C_t.
template <class T>
Lanes<T> scan_state_back(const ChunkInputs<T>& in, std::int64_t rows, const Lanes<T>& rate, const T* b, const T* c, std::int64_t states,
                         StateHistory<T>& past, ChunkGradients<T>& grad, Lanes<T>& dh) {
  Lanes<T> later = dh, da{};
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const Lanes<T> dht = later + grad.dy[t] * c[t * states];
    later = past.decay[t] * dht;
    const Lanes<T> through = later * past.h[t];
    grad.drive[t] += dht * b[t * states];
    grad.ddt[t] += through * rate;
    da += through * in.dt[t];
    past.decay[t] = dht * in.dtx[t];
    past.h[t + 1] *= grad.dy[t];
  }
  dh = later;
  return da;
}

// out[t] += the sum of the lanes of row t, for `count` rows, rounded up to whole vectors with rows of 0. Overwrites the rows.
template <class T>
void add_lane_sums(Lanes<T>* rows, std::int64_t count, T* out) {
  constexpr std::int64_t lanes = lane_count<T>;
  for (std::int64_t t = count; t % lanes != 0; ++t) rows[t] = Lanes<T>{};
  for (std::int64_t t = 0; t < count; t += lanes) store<T>(out + t, load(out + t) + sum_each<T>(rows + t));
}

// A tile is a range of sequences and a block of groups of channels. The gradients of b and c are sums over channels, so each block
// has its own partial sums. The gradients of A_log and D are sums over tokens, so each range of sequences has its own partial sums.
template <class T>
struct BackwardTiles {
  explicit BackwardTiles(const Sizes<T>& sizes) {
    // At most 16 blocks, and no more memory for the partial sums of db and dc than x takes.
    const std::int64_t channels = std::max({std::int64_t{64}, 2 * sizes.states, tile_count(sizes.channels, 16)});
    groups_per_block = tile_count(channels, sizes.lanes);
    blocks = tile_count(sizes.groups, groups_per_block);
    sequences_per_range = std::max<std::int64_t>(1, tile_count(sizes.sequences, 16));
    ranges = tile_count(sizes.sequences, sequences_per_range);
  }
  std::int64_t groups_per_block, blocks, sequences_per_range, ranges;
};

template <class E>
class Backward {
 public:
  using T = Real<E>;

  Backward(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out)
      : sizes_(in),
        tiles_(sizes_),
        out_(out),
        rates_(grouped_rates<T>(in.a_log, sizes_)),
        db_(zeros(columns_shape(tiles_.blocks), dtype_of<T>)),
        dc_(zeros(columns_shape(tiles_.blocks), dtype_of<T>)),
        da_(zeros(Shape{tiles_.ranges, rates_.numel()}, dtype_of<T>)),
        dd_(zeros(Shape{tiles_.ranges, sizes_.groups * sizes_.lanes}, dtype_of<T>)),
        wide_b_(widened(in.b)),
        wide_c_(widened(in.c)),
        x_(data<E>(in.x)),
        dy_(data<E>(dy)),
        dt_(data<T>(in.dt)),
        b_(data<T>(wide_b_)),
        c_(data<T>(wide_c_)),
        d_(data<T>(in.d)),
        initial_(data_or_null<T>(in.initial)),
        chunk_states_(data<T>(chunk_states)),
        dfinal_(data_or_null<T>(dfinal)),
        dx_(data<E>(out.dx)),
        ddt_(data<T>(out.ddt)),
        dinitial_(data_or_null<T>(out.dinitial)) {}

  void run() {
    parallel_tiles(tiles_.ranges * tiles_.blocks, 1, [&](std::int64_t tile, std::int64_t, std::int64_t) {
      const std::int64_t range = tile / tiles_.blocks, block = tile % tiles_.blocks;
      const std::int64_t first = range * tiles_.sequences_per_range, last = std::min(sizes_.sequences, first + tiles_.sequences_per_range);
      const std::int64_t begin = block * tiles_.groups_per_block, end = std::min(sizes_.groups, begin + tiles_.groups_per_block);
      for (std::int64_t sequence = first; sequence < last; ++sequence)
        for (std::int64_t group = begin; group < end; ++group) run_group(sequence, group, range, block);
    });
    add_blocks(db_, data<E>(out_.db));
    add_blocks(dc_, data<E>(out_.dc));
    add_ranges();
  }

 private:
  void run_group(std::int64_t sequence, std::int64_t group, std::int64_t range, std::int64_t block) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, offset = sizes_.state_offset(sequence, group);
    Lanes<T> dh[selective_scan_max_states];
    load_states(dfinal_ == nullptr ? nullptr : dfinal_ + offset, states, width, dh);
    for (std::int64_t k = sizes_.chunks - 1; k >= 0; --k) run_chunk(sequence, group, k, range, block, dh);
    if (dinitial_ != nullptr) store_states(dh, states, width, dinitial_ + offset);
  }

  void run_chunk(std::int64_t sequence, std::int64_t group, std::int64_t k, std::int64_t range, std::int64_t block, Lanes<T>* dh) {
    const std::int64_t width = sizes_.width(group), rows = sizes_.tokens_of(k), token = sequence * sizes_.tokens + k * chunk;
    const std::int64_t offset = token * sizes_.channels + group * sizes_.lanes;
    BackwardChunk<T> work;
    auto& [in, grad, past] = work;
    in.load(x_ + offset, dt_ + offset, sizes_.channels, rows, width);
    load_rows(dy_ + offset, sizes_.channels, rows, width, grad.dy);
    for (std::int64_t t = 0; t < rows; ++t) grad.drive[t] = grad.ddt[t] = Lanes<T>{};
    const std::int64_t next = offset - chunk * sizes_.channels, next_rows = k > 0 ? chunk : 0;
    for (std::int64_t s = 0; s < sizes_.states; ++s) {
      for (const E* from : {x_, dy_}) prefetch_rows(from + next, sizes_.channels, next_rows, s, sizes_.states);
      prefetch_rows(dt_ + next, sizes_.channels, next_rows, s, sizes_.states);
      const T *b = b_ + token * sizes_.states + s, *c = c_ + token * sizes_.states + s;
      const std::int64_t rate_at = (group * sizes_.states + s) * sizes_.lanes;
      const Lanes<T> rate = load(data<T>(rates_) + rate_at);
      past.compute(in, rows, rate, b, sizes_.states, load_state(state_before(sequence, group, k), sizes_.states, s, width));
      const Lanes<T> da = scan_state_back(in, rows, rate, b, c, sizes_.states, past, grad, dh[s]);
      T* da_sum = data<T>(da_) + range * rates_.numel() + rate_at;
      store<T>(da_sum, load(da_sum) + da);
      const std::int64_t partial = (((block * sizes_.sequences + sequence) * sizes_.chunks + k) * sizes_.states + s) * sizes_.padded_tokens;
      add_lane_sums<T>(past.decay, rows, data<T>(db_) + partial);
      add_lane_sums<T>(past.h + 1, rows, data<T>(dc_) + partial);
    }
    finish_chunk(in, grad, rows, group, data<T>(dd_) + (range * sizes_.groups + group) * sizes_.lanes);
    store_rows(grad.drive, rows, width, dx_ + offset, sizes_.channels);
    store_rows(grad.ddt, rows, width, ddt_ + offset, sizes_.channels);
  }

  const T* state_before(std::int64_t sequence, std::int64_t group, std::int64_t k) const {
    if (k > 0) return chunk_states_ + sizes_.chunk_state_offset(sequence, k, group);
    return initial_ == nullptr ? nullptr : initial_ + sizes_.state_offset(sequence, group);
  }

  // dx = D dy + dt drive, in place of drive; ddt = ddt ln 2 + x drive; dD += sum_t dy x.
  void finish_chunk(const ChunkInputs<T>& in, ChunkGradients<T>& grad, std::int64_t rows, std::int64_t group, T* dd) const {
    const Lanes<T> d = load_first(d_ + group * sizes_.lanes, sizes_.width(group));
    Lanes<T> sum{};
    for (std::int64_t t = 0; t < rows; ++t) {
      sum += grad.dy[t] * in.x[t];
      grad.ddt[t] = grad.ddt[t] * static_cast<T>(ln2) + in.x[t] * grad.drive[t];
      grad.drive[t] = d * grad.dy[t] + in.dt[t] * grad.drive[t];
    }
    store<T>(dd, load(dd) + sum);
  }

  // Partial sums of db or dc: for each state of each chunk, the tokens of the chunk are adjacent.
  Shape columns_shape(std::int64_t blocks) const { return Shape{blocks, sizes_.sequences * sizes_.chunks * sizes_.states * sizes_.padded_tokens}; }

  // out (B, T, S) = the sum of the blocks.
  void add_blocks(const Tensor& partials, E* out) const {
    const std::int64_t states = sizes_.states;
    Tensor sums = empty(columns_shape(1), partials.dtype());
    add_partials(partials, data<T>(sums), 0.0f);
    parallel_tiles(sizes_.sequences * sizes_.chunks, rows_per_tile(sizes_.padded_tokens * states),
                   [&](std::int64_t begin, std::int64_t end, std::int64_t) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       const std::int64_t k = i % sizes_.chunks, rows = sizes_.tokens_of(k);
                       const T* from = data<T>(sums) + i * states * sizes_.padded_tokens;
                       E* to = out + (i / sizes_.chunks * sizes_.tokens + k * chunk) * states;
                       for (std::int64_t t = 0; t < rows; ++t)
                         for (std::int64_t s = 0; s < states; ++s) write(to[t * states + s], from[s * sizes_.padded_tokens + t]);
                     }
                   });
  }

  // The gradients of A_log and D: sums over the ranges, rearranged from groups to channels. dA_log = dA A.
  void add_ranges() {
    constexpr std::int64_t lanes = lane_count<T>;
    Tensor da = empty(rates_.shape(), rates_.dtype()), dd = empty(Shape{sizes_.groups * lanes}, rates_.dtype());
    add_partials(da_, data<T>(da), 0.0f);
    add_partials(dd_, data<T>(dd), 0.0f);
    const T *from_a = data<T>(da), *rates = data<T>(rates_), *from_d = data<T>(dd);
    T *to_a = data<T>(out_.da_log), *to_d = data<T>(out_.dd);
    for (std::int64_t c = 0; c < sizes_.channels; ++c) {
      to_d[c] = (out_.beta_d == 0 ? T(0) : to_d[c]) + from_d[c];
      for (std::int64_t s = 0; s < sizes_.states; ++s) {
        const std::int64_t from = (c / lanes * sizes_.states + s) * lanes + c % lanes, to = c * sizes_.states + s;
        to_a[to] = (out_.beta_a_log == 0 ? T(0) : to_a[to]) + from_a[from] * rates[from] * static_cast<T>(ln2);
      }
    }
  }

  const Sizes<T> sizes_;
  const BackwardTiles<T> tiles_;
  SelectiveScanGradients& out_;
  const Tensor rates_;
  Tensor db_, dc_, da_, dd_;  // partial sums: (blocks, B chunks S tokens) twice, (ranges, groups S lanes), (ranges, groups lanes)
  const Tensor wide_b_, wide_c_;  // b and c are small beside x
  const E *x_, *dy_;
  const T *dt_, *b_, *c_, *d_, *initial_, *chunk_states_, *dfinal_;
  E* dx_;
  T *ddt_, *dinitial_;
};

void backward(const Tensor& dy, const Tensor& dfinal, const SelectiveScanInputs& in, const Tensor& chunk_states, SelectiveScanGradients& out) {
  for_floating_type("selective_scan_backward", dy.dtype(), [&]<class E>() { Backward<E>(dy, dfinal, in, chunk_states, out).run(); });
}

const bool added = add_cpu_floating_kernel(selective_scan_backward, backward);

}  // namespace
}  // namespace mblm::selective
