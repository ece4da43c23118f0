// The recurrence of Mamba-2 token by token, with one order of operations for every token.
#include <cmath>

#include "cpu/kernel.h"
#include "cpu/lanes.h"
#include "ops/scalar.h"
#include "ops/ssd_scan.h"

namespace mblm {
namespace {

// One function, so that the compiler rounds in the same way for every caller.
template <class T>
[[gnu::noinline]] T decay(T rate, T dt) {
  return scalar::exp(-rate * dt);
}

// A unit of work is a group of lane_count rows of h of one head of one sequence, for all tokens: h of the group stays in the L1 cache,
// and its outputs are one vector. Each element of h is read and written once per token and takes five operations.
template <class E>
class Recurrence {
 public:
  using T = Real<E>;
  static constexpr std::int64_t lanes = lane_count<T>;

  Recurrence(const SsdScanInputs& in, Tensor& y, Tensor& final_state)
      : tokens_(in.x.size(1)),
        heads_(in.dt.size(2)),
        width_(in.x.size(2) / in.dt.size(2)),
        states_(in.b.size(2)),
        stride_(tile_count(states_, lanes) * lanes),
        groups_(tile_count(width_, lanes)),
        units_(in.x.size(0) * heads_ * groups_),
        x_(data<E>(in.x)),
        b_(data<E>(in.b)),
        c_(data<E>(in.c)),
        dt_(data<T>(in.dt)),
        a_log_(data<T>(in.a_log)),
        d_(data<T>(in.d)),
        initial_(data_or_null<T>(in.initial)),
        y_(data<E>(y)),
        final_(data_or_null<T>(final_state)) {}

  void run() const {
    const std::int64_t per_tile = std::max<std::int64_t>(1, elementwise_tile / (tokens_ * lanes * stride_));
    parallel_tiles(units_, per_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      Tensor memory = empty(Shape{lanes, stride_}, dtype_of<T>);
      for (std::int64_t unit = begin; unit < end; ++unit) run_unit(unit, data<T>(memory));
    });
  }

 private:
  void run_unit(std::int64_t unit, T* h) const {
    const std::int64_t sequence = unit / groups_ / heads_, head = unit / groups_ % heads_, first = unit % groups_ * lanes;
    const std::int64_t rows = std::min(lanes, width_ - first), offset = ((sequence * heads_ + head) * width_ + first) * states_;
    if (rows < lanes || stride_ != states_ || initial_ == nullptr) std::fill_n(h, lanes * stride_, T(0));
    for (std::int64_t r = 0; r < rows && initial_ != nullptr; ++r) std::copy_n(initial_ + offset + r * states_, states_, h + r * stride_);
    const T rate = std::exp(a_log_[head]);
    for (std::int64_t t = 0; t < tokens_; ++t) {
      const std::int64_t token = sequence * tokens_ + t, at = (token * heads_ + head) * width_ + first;
      const T dt = dt_[token * heads_ + head];
      const Lanes<T> x = rows == lanes ? load(x_ + at) : load_first(x_ + at, rows);
      const Lanes<T> y = multiply_add(x, Lanes<T>{} + d_[head], advance(h, decay(rate, dt), x * dt, b_ + token * states_, c_ + token * states_));
      rows == lanes ? store(y_ + at, y) : store_first(y_ + at, y, rows);
    }
    for (std::int64_t r = 0; r < rows && final_ != nullptr; ++r) std::copy_n(h + r * stride_, states_, final_ + offset + r * states_);
  }

  // h = a h + dtx (outer) b; returns h c.
  Lanes<T> advance(T* h, T a, const Lanes<T>& dtx, const E* b, const E* c) const {
    Lanes<T> sum[lanes] = {};
    const Lanes<T> keep = Lanes<T>{} + a;
    std::int64_t s = 0;
    for (; s + lanes <= states_; s += lanes) add(h + s, keep, dtx, load(b + s), load(c + s), sum);
    if (s < states_) add(h + s, keep, dtx, load_first(b + s, states_ - s), load_first(c + s, states_ - s), sum);
    return sum_each<T>(sum);
  }

  void add(T* h, const Lanes<T>& keep, const Lanes<T>& dtx, const Lanes<T>& b, const Lanes<T>& c, Lanes<T>* sum) const {
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) {
      const Lanes<T> next = multiply_add(load(h + r * stride_), keep, b * (Lanes<T>{} + dtx[r]));
      store(h + r * stride_, next);
      sum[r] = multiply_add(next, c, sum[r]);
    }
  }

  const std::int64_t tokens_, heads_, width_, states_, stride_, groups_, units_;
  const E *x_, *b_, *c_;
  const T *dt_, *a_log_, *d_, *initial_;
  E* y_;
  T* final_;
};

void forward(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& final_state) {
  for_floating_type("ssd_recurrence_forward", x.dtype(), [&]<class E>() { Recurrence<E>(in, y, final_state).run(); });
}

const bool added = add_cpu_floating_kernel(ssd_recurrence_forward, forward);

}  // namespace
}  // namespace mblm
