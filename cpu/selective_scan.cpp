#include "ops/selective_scan.h"

#include "cpu/selective_chunk.h"

namespace mblm::selective {
namespace {

// One state and one token: h = exp(dt A) h + dt B x, y += C h. With its products and sums spelled out, a token has the same bits in both
// loops below.
template <class T>
inline void scan_token(const Lanes<T>& dt, const Lanes<T>& dtx, const Lanes<T>& rate, T b, T c, Lanes<T>& h, Lanes<T>& y) {
  h = multiply_add(fast_exp2(dt * rate), h, dtx * b);
  y = multiply_add(h, Lanes<T>{} + c, y);
}

// One state over a chunk; returns the last h. b and c point to the entry of this state for the first token; those of the next tokens are
// S apart.
template <class T>
Lanes<T> scan_state(const ChunkInputs<T>& in, std::int64_t rows, const Lanes<T>& rate, const T* b, const T* c, std::int64_t states, Lanes<T> h,
                    Lanes<T>* y) {
  for (std::int64_t t = 0; t < rows; ++t) scan_token(in.dt[t], in.dtx[t], rate, b[t * states], c[t * states], h, y[t]);
  return h;
}

template <class E>
class Forward {
 public:
  using T = Real<E>;

  Forward(const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state)
      : sizes_(in),
        rates_(grouped_rates<T>(in.a_log, sizes_)),
        wide_b_(widened(in.b)),
        wide_c_(widened(in.c)),
        x_(data<E>(in.x)),
        dt_(data<T>(in.dt)),
        b_(data<T>(wide_b_)),
        c_(data<T>(wide_c_)),
        d_(data<T>(in.d)),
        initial_(data_or_null<T>(in.initial)),
        y_(data<E>(y)),
        chunk_states_(data_or_null<T>(chunk_states)),
        final_(data_or_null<T>(final_state)) {}

  // A unit is a group of channels of one sequence; loading and storing its states takes as long as about three tokens. A tile has units for
  // about 64 tokens, so that short sequences share tiles, but a single token is computed by several threads.
  void run() {
    const std::int64_t units_per_tile = std::max<std::int64_t>(1, 64 / (sizes_.tokens + 3));
    parallel_tiles(sizes_.sequences * sizes_.groups, units_per_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t unit = begin; unit < end; ++unit) run_group(unit / sizes_.groups, unit % sizes_.groups);
    });
  }

 private:
  void run_group(std::int64_t sequence, std::int64_t group) {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, offset = sizes_.state_offset(sequence, group);
    Lanes<T> h[selective_scan_max_states];
    load_states(initial_ == nullptr ? nullptr : initial_ + offset, states, width, h);
    for (std::int64_t k = 0; k < sizes_.chunks; ++k) {
      if (k > 0 && chunk_states_ != nullptr) store_states(h, states, width, chunk_states_ + sizes_.chunk_state_offset(sequence, k, group));
      run_chunk(sequence, group, k, h);
    }
    if (final_ != nullptr) store_states(h, states, width, final_ + offset);
  }

  void run_chunk(std::int64_t sequence, std::int64_t group, std::int64_t k, Lanes<T>* h) const {
    const std::int64_t width = sizes_.width(group), states = sizes_.states, rows = sizes_.tokens_of(k), token = sequence * sizes_.tokens + k * chunk;
    const std::int64_t offset = token * sizes_.channels + group * sizes_.lanes;
    ChunkInputs<T> in;
    in.load(x_ + offset, dt_ + offset, sizes_.channels, rows, width);
    const Lanes<T> d = load_first(d_ + group * sizes_.lanes, width);
    ChunkRows<T> y;
    for (std::int64_t t = 0; t < rows; ++t) y[t] = d * in.x[t];
    const T* rates = data<T>(rates_) + group * states * sizes_.lanes;
    if (rows == 1) {  // a generated token: y stays in a register
      Lanes<T> sum = y[0];
      for (std::int64_t s = 0; s < states; ++s)
        scan_token(in.dt[0], in.dtx[0], load(rates + s * sizes_.lanes), b_[token * states + s], c_[token * states + s], h[s], sum);
      y[0] = sum;
      store_rows(y, rows, width, y_ + offset, sizes_.channels);
      return;
    }
    const std::int64_t next = offset + chunk * sizes_.channels, next_rows = k + 1 < sizes_.chunks ? sizes_.tokens_of(k + 1) : 0;
    for (std::int64_t s = 0; s < states; ++s) {
      prefetch_rows(x_ + next, sizes_.channels, next_rows, s, states);
      prefetch_rows(dt_ + next, sizes_.channels, next_rows, s, states);
      h[s] = scan_state(in, rows, load(rates + s * sizes_.lanes), b_ + token * states + s, c_ + token * states + s, states, h[s], y);
    }
    store_rows(y, rows, width, y_ + offset, sizes_.channels);
  }

  const Sizes<T> sizes_;
  const Tensor rates_, wide_b_, wide_c_;  // b and c are small beside x
  const E* x_;
  const T *dt_, *b_, *c_, *d_, *initial_;
  E* y_;
  T *chunk_states_, *final_;
};

void forward(const Tensor& x, const SelectiveScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state) {
  for_floating_type("selective_scan_forward", x.dtype(), [&]<class E>() { Forward<E>(in, y, chunk_states, final_state).run(); });
}

const bool added = add_cpu_floating_kernel(selective_scan_forward, forward);

}  // namespace
}  // namespace mblm::selective
