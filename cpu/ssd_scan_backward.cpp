#include "cpu/kernel.h"
#include "cpu/ssd_chunk.h"
#include "ops/ssd_scan.h"

namespace mblm {
namespace {

using ssd::Borders;
using ssd::Decay;
using ssd::Sizes;

// Scratch memory of one tile. Per chunk: gram and its gradient. Per head: L, M and dM, the gradients of dt_k and log a_k, scaled rows of
// x or dy (64, p), and their product with the state (64, S). The rows of x, dy and dx of a chunk, in the type T of the arithmetic.
template <class E>
struct Scratch {
  using T = Real<E>;
  alignas(64) T gram[ssd_chunk * triangle_row], dgram[ssd_chunk * triangle_row];
  alignas(64) T l[ssd_chunk * triangle_row], m[ssd_chunk * triangle_row], dm[ssd_chunk * triangle_row];
  T ddt[ssd_chunk], dlog_a[ssd_chunk];
  Tensor scaled_rows, state_rows;
  RowBuffer<E> x, dy, dx;

  explicit Scratch(const Sizes& n)
      : scaled_rows(empty(Shape{ssd_chunk, n.width}, dtype_of<T>)),
        state_rows(empty(Shape{ssd_chunk, n.states}, dtype_of<T>)),
        x(std::min(ssd_chunk, n.tokens) * n.row()),
        dy(std::min(ssd_chunk, n.tokens) * n.row()),
        dx(std::min(ssd_chunk, n.tokens) * n.row()) {}
};

// load(ones_then_zeros<T>.data() + lane_count<T> - k) has ones in its first k lanes.
template <class T>
inline constexpr std::array<T, 2 * lane_count<T>> ones_then_zeros = [] {
  std::array<T, 2 * lane_count<T>> values{};
  std::fill_n(values.begin(), lane_count<T>, T(1));
  return values;
}();

template <class E>
struct Backward {
  using T = Real<E>;
  Sizes n;
  const E *x, *dy;
  const T *dt, *a_log, *b, *c, *d;
  Borders<T> h, dh;
  E* dx;
  T *ddt, *db, *dc;
  double* weight_partials;  // (sequences * chunks, 2, H): partial sums of dA_log and dD

  // dh of one head from chunk end - 1 down to `begin`: dh = a_0 ... a_{q-1} dh' + sum_i a_0 ... a_i dy_i (outer) C_i.
  void sweep(std::int64_t sequence, std::int64_t head, std::int64_t begin, std::int64_t end, T* weighted) const {
    for (std::int64_t chunk = end - 1; chunk >= begin; --chunk) {
      T *out = dh.before(n, sequence, chunk), *in = dh.after(n, sequence, chunk);
      if (out == nullptr) return;
      const std::int64_t token = n.token(sequence, chunk), skip = head * n.head_state();
      Decay<T> decay(n, dt, a_log, token, n.length(chunk), head);
      decay.find_products();
      ssd::scale_rows(decay.q, n.width, decay.from_start, dy + token * n.row() + head * n.width, n.row(), weighted, n.width);
      ssd::advance_state(n, decay.q, decay.whole(), in == nullptr ? nullptr : in + skip, weighted, c + token * n.states, out + skip);
    }
  }

  // All other gradients of one chunk, head by head. With gram_ij = C_i . B_j and dgram summed over the heads:
  // dC = dgram B + the part from h before the chunk (from_state); dB = dgram^T C + the part from dh after it (from_next_state).
  void gradients(std::int64_t sequence, std::int64_t chunk, Scratch<E>& s) const {
    const std::int64_t token = n.token(sequence, chunk), q = n.length(chunk), first = token * n.states;
    const T *state = h.before(n, sequence, chunk), *dstate = dh.after(n, sequence, chunk);
    const std::int64_t place = token * n.row(), size = q * n.row();
    const T *x_rows = s.x.read_row(x + place, size), *dy_rows = s.dy.read_row(dy + place, size);
    T* dx_rows = s.dx.start_row(dx + place);
    double* partials = weight_partials + (sequence * n.chunks + chunk) * 2 * n.heads;
    lower_dots(q, n.states, c + first, b + first, n.states, s.gram);
    for (std::int64_t i = 0; i < q; ++i) std::fill_n(s.dgram + i * triangle_row, padded(q), T(0));
    if (state != nullptr) std::fill_n(dc + first, q * n.states, T(0));
    if (dstate != nullptr) std::fill_n(db + first, q * n.states, T(0));
    if (dstate != nullptr)
      gemm<T>(false, true, q, n.row(), n.states, T(1), b + first, n.states, dstate, n.states, T(0), dx_rows, n.row());
    for (std::int64_t head = 0; head < n.heads; ++head) {
      Decay<T> decay(n, dt, a_log, token, q, head);
      const std::int64_t column = head * n.width, skip = head * n.head_state();
      std::fill_n(s.ddt, q, T(0));
      std::fill_n(s.dlog_a, q, T(0));
      if (state != nullptr || dstate != nullptr) decay.find_products();
      if (dstate != nullptr) from_next_state(decay, x_rows + column, dstate + skip, dx_rows + column, db + first, s);
      if (state != nullptr) from_state(decay, dy_rows + column, state + skip, c + first, dc + first, s);
      if (state != nullptr && dstate != nullptr) {
        const T whole = decay.whole() * row_dot(state + skip, dstate + skip, n.head_state());
        for (std::int64_t k = 0; k < q; ++k) s.dlog_a[k] += whole;
      }
      partials[n.heads + head] = within_chunk(decay, x_rows + column, dy_rows + column, d[head], T(dstate != nullptr), dx_rows + column, s);
      partials[head] = decay_gradients(decay, s, ddt + token * n.heads + head);
    }
    s.dx.finish_row(dx + place, size);
    lower_transposed_times(q, n.states, s.dgram, c + first, n.states, T(dstate != nullptr), db + first, n.states);
    lower_times(q, n.states, s.dgram, b + first, n.states, T(state != nullptr), dc + first, n.states);
  }

 private:
  // Gradients through h' = ... + sum_j to_end_j dt_j x_j (outer) B_j. On entry, pdx holds dh' B_j. to_end_j contains log a_k for k > j.
  void from_next_state(const Decay<T>& decay, const T* px, const T* dstate, T* pdx, T* pdb, Scratch<E>& s) const {
    T weight[ssd_chunk], before = 0;
    for (std::int64_t j = 0; j < decay.q; ++j) {
      const T reach = row_dot(px + j * n.row(), pdx + j * n.row(), n.width);
      weight[j] = decay.to_end[j] * decay.dt[j];
      s.ddt[j] += decay.to_end[j] * reach;
      s.dlog_a[j] += before;
      before += weight[j] * reach;
    }
    ssd::scale_rows(decay.q, n.width, weight, pdx, n.row(), pdx, n.row());
    T* rows = data<T>(s.scaled_rows);
    ssd::scale_rows(decay.q, n.width, weight, px, n.row(), rows, n.width);
    gemm<T>(false, false, decay.q, n.states, n.width, T(1), rows, n.width, dstate, n.states, T(1), pdb, n.states);
  }

  // Gradients through y_i = ... + from_start_i h C_i. from_start_i contains log a_k for k <= i.
  void from_state(const Decay<T>& decay, const T* pdy, const T* state, const T* pc, T* pdc, Scratch<E>& s) const {
    T *rows = data<T>(s.scaled_rows), *dc_rows = data<T>(s.state_rows);
    ssd::scale_rows(decay.q, n.width, decay.from_start, pdy, n.row(), rows, n.width);
    gemm<T>(false, false, decay.q, n.states, n.width, T(1), rows, n.width, state, n.states, T(0), dc_rows, n.states);
    T after = 0;
    for (std::int64_t i = decay.q - 1; i >= 0; --i) {
      const T* row = dc_rows + i * n.states;
      T* out = pdc + i * n.states;
#pragma omp simd
      for (std::int64_t k = 0; k < n.states; ++k) out[k] += row[k];
      after += row_dot(row, pc + i * n.states, n.states);
      s.dlog_a[i] += after;
    }
  }

  // y = M x with M_ij = gram_ij L_ij dt_j + D [i = j], so dM_ij = dy_i . x_j. Returns dD.
  double within_chunk(const Decay<T>& decay, const T* px, const T* pdy, T weight_d, T beta, T* pdx, Scratch<E>& s) const {
    ssd::mixing_matrix(decay, s.gram, weight_d, s.l, s.m);
    lower_transposed_times(decay.q, n.width, s.m, pdy, n.row(), beta, pdx, n.row());
    lower_dots(decay.q, n.width, pdy, px, n.row(), s.dm);
    // M_ij contains all a_k with i >= k > j. Their gradients are summed from the last row up; no sum is a difference of other sums.
    constexpr std::int64_t one = lane_count<T>;
    alignas(64) T below[ssd_chunk] = {};  // sum over rows i >= k of dM_ij gram_ij L_ij
    double sum_d = 0;
    for (std::int64_t k = decay.q - 1; k >= 0; --k) {
      Lanes<T> crossing = {};
      for (std::int64_t j = 0; j <= k; j += one) {
        const std::int64_t at = k * triangle_row + j;
        const Lanes<T> decayed = load(s.dm + at) * load(s.l + at), step = load(decay.dt + j);
        const Lanes<T> sum = load(below + j) + decayed * load(s.gram + at), all = sum * step;
        store<T>(s.dgram + at, load(s.dgram + at) + decayed * step);
        store<T>(below + j, sum);
        crossing += j + one <= k ? all : all * load(ones_then_zeros<T>.data() + one - (k - j));
      }
      s.dlog_a[k] += lane_sum<T>(crossing);
      sum_d += s.dm[k * triangle_row + k];
    }
    for (std::int64_t j = 0; j < decay.q; ++j) s.ddt[j] += below[j];
    return sum_d;
  }

  // log a_k = -exp(A_log) dt_k. Writes ddt and returns dA_log.
  double decay_gradients(const Decay<T>& decay, const Scratch<E>& s, T* out) const {
    double sum = 0;
    for (std::int64_t k = 0; k < decay.q; ++k) {
      out[k * n.heads] = s.ddt[k] - decay.rate * s.dlog_a[k];
      sum -= static_cast<double>(s.dlog_a[k]) * decay.dt[k];
    }
    return sum * decay.rate;
  }
};

// Chunks [begin, end) of all sequences: first the gradients of the states between chunks, head by head; then all other gradients.
template <class E>
void run_chunks(const Backward<E>& f, std::int64_t begin, std::int64_t end) {
  using T = Real<E>;
  const Sizes& n = f.n;
  if (n.chunks > 1 || f.dh.first != nullptr) {
    parallel_tiles(n.batch * n.heads, 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
      Tensor weighted = empty(Shape{ssd_chunk, n.width}, dtype_of<T>);
      f.sweep(unit / n.heads, unit % n.heads, begin, end, data<T>(weighted));
    });
  }
  const std::int64_t count = end - begin;
  parallel_tiles(n.batch * count, ssd::chunks_per_tile(n), [&](std::int64_t first, std::int64_t last, std::int64_t) {
    Scratch<E> scratch(n);
    for (std::int64_t unit = first; unit < last; ++unit) f.gradients(unit / count, begin + unit % count, scratch);
  });
}

// out_h = beta out_h + the sum of the partial sums of head h, in order.
template <class T>
void add_weight_partials(const double* partials, std::int64_t count, std::int64_t heads, float beta, T* out) {
  for (std::int64_t head = 0; head < heads; ++head) {
    double sum = 0;
    for (std::int64_t unit = 0; unit < count; ++unit) sum += partials[unit * 2 * heads + head];
    out[head] = static_cast<T>(beta == 0 ? sum : sum + beta * out[head]);
  }
}

void backward(const Tensor& dy, const Tensor& dfinal, const SsdScanInputs& in, const Tensor& chunk_states, SsdScanGradients& out) {
  for_floating_type("ssd_scan_backward", dy.dtype(), [&]<class E>() {
    using T = Real<E>;
    const Sizes n(in);
    const Tensor wide_b = widened(in.b), wide_c = widened(in.c);  // small beside x
    Tensor db = wide_like(out.db), dc = wide_like(out.dc);
    Tensor partials = empty(Shape{n.batch * n.chunks, 2, n.heads}, DType::Float64), dbetween;
    if (n.chunks > 1) dbetween = empty(Shape{n.batch, std::min(n.chunks - 1, ssd::sweep_chunks + 1), n.heads, n.width, n.states}, dtype_of<T>);
    const Backward<E> f{n,
                        data<E>(in.x),
                        data<E>(dy),
                        data<T>(in.dt),
                        data<T>(in.a_log),
                        data<T>(wide_b),
                        data<T>(wide_c),
                        data<T>(in.d),
                        ssd::borders<T>(in.initial, chunk_states, {}),
                        ssd::borders<T>(out.dinitial, dbetween, dfinal),
                        data<E>(out.dx),
                        data<T>(out.ddt),
                        data<T>(db),
                        data<T>(dc),
                        data<double>(partials)};
    for (std::int64_t end = n.chunks; end > 0; end -= ssd::sweep_chunks) run_chunks(f, std::max<std::int64_t>(0, end - ssd::sweep_chunks), end);
    store_wide(db, out.db);
    store_wide(dc, out.dc);
    add_weight_partials(data<double>(partials), n.batch * n.chunks, n.heads, out.beta_a_log, data<T>(out.da_log));
    add_weight_partials(data<double>(partials) + n.heads, n.batch * n.chunks, n.heads, out.beta_d, data<T>(out.dd));
  });
}

const bool added = add_cpu_floating_kernel(ssd_scan_backward, backward);

}  // namespace
}  // namespace mblm
