#include "ops/ssd_scan.h"

#include "cpu/kernel.h"
#include "cpu/ssd_chunk.h"

namespace mblm {
namespace {

using ssd::Borders;
using ssd::Decay;
using ssd::Sizes;

// x and y are bfloat16 or the type T of the arithmetic and of all other tensors.
template <class E>
struct Forward {
  using T = Real<E>;
  Sizes n;
  const E* x;
  const T *dt, *a_log, *b, *c, *d;
  E* y;
  Borders<T> h;

  // h of one head over chunks [begin, end): h' = a_0 ... a_{q-1} h + sum_j to_end_j dt_j x_j (outer) B_j.
  void sweep(std::int64_t sequence, std::int64_t head, std::int64_t begin, std::int64_t end, T* weighted) const {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      T *out = h.after(n, sequence, chunk), *in = h.before(n, sequence, chunk);
      if (out == nullptr) return;
      const std::int64_t token = n.token(sequence, chunk), skip = head * n.head_state();
      Decay<T> decay(n, dt, a_log, token, n.length(chunk), head);
      decay.find_products();
      T weight[ssd_chunk];
      for (std::int64_t j = 0; j < decay.q; ++j) weight[j] = decay.to_end[j] * decay.dt[j];
      ssd::scale_rows(decay.q, n.width, weight, x + token * n.row() + head * n.width, n.row(), weighted, n.width);
      ssd::advance_state(n, decay.q, decay.whole(), in == nullptr ? nullptr : in + skip, weighted, b + token * n.states, out + skip);
    }
  }

  // y of all heads in one chunk: first the part from the state before the chunk, then the part from its own tokens.
  void outputs(std::int64_t sequence, std::int64_t chunk, RowBuffer<E>& x_rows, RowBuffer<E>& y_rows) const {
    alignas(64) T gram[ssd_chunk * triangle_row], m[ssd_chunk * triangle_row];
    const std::int64_t token = n.token(sequence, chunk), q = n.length(chunk);
    const T* state = h.before(n, sequence, chunk);
    const T* in = x_rows.read_row(x + token * n.row(), q * n.row());
    T* out = y_rows.start_row(y + token * n.row());
    lower_dots(q, n.states, c + token * n.states, b + token * n.states, n.states, gram);
    if (state != nullptr) gemm<T>(false, true, q, n.row(), n.states, T(1), c + token * n.states, n.states, state, n.states, T(0), out, n.row());
    for (std::int64_t head = 0; head < n.heads; ++head) {
      Decay<T> decay(n, dt, a_log, token, q, head);
      T* to = out + head * n.width;
      if (state != nullptr) {
        decay.find_products();
        ssd::scale_rows(q, n.width, decay.from_start, to, n.row(), to, n.row());
      }
      ssd::mixing_matrix<T>(decay, gram, d[head], nullptr, m);
      lower_times(q, n.width, m, in + head * n.width, n.row(), T(state != nullptr), to, n.row());
    }
    y_rows.finish_row(y + token * n.row(), q * n.row());
  }

  // One token of one head, one row of h at a time. Memory bound: h is read and written once.
  void step(std::int64_t sequence, std::int64_t head) const {
    const std::int64_t row = sequence * n.heads + head;
    const T a = std::exp(-std::exp(a_log[head]) * dt[row]), *pb = b + sequence * n.states, *pc = c + sequence * n.states;
    const E* px = x + row * n.width;
    const T* in = h.first + row * n.head_state();
    T* out = h.last + row * n.head_state();
    E* py = y + row * n.width;
    for (std::int64_t r = 0; r < n.width; ++r, in += n.states, out += n.states) {
      const T value = read(px[r]), dtx = dt[row] * value;
#pragma omp simd
      for (std::int64_t s = 0; s < n.states; ++s) out[s] = a * in[s] + dtx * pb[s];
      write(py[r], row_dot(out, pc, n.states) + d[head] * value);
    }
  }
};

// Chunks [begin, end) of all sequences: first the states between chunks, head by head; then the outputs.
template <class E>
void run_chunks(const Forward<E>& f, std::int64_t begin, std::int64_t end) {
  using T = Real<E>;
  const Sizes& n = f.n;
  if (n.chunks > 1 || f.h.last != nullptr) {
    parallel_tiles(n.batch * n.heads, 1, [&](std::int64_t unit, std::int64_t, std::int64_t) {
      Tensor weighted = empty(Shape{ssd_chunk, n.width}, dtype_of<T>);
      f.sweep(unit / n.heads, unit % n.heads, begin, end, data<T>(weighted));
    });
  }
  const std::int64_t count = end - begin;
  parallel_tiles(n.batch * count, ssd::chunks_per_tile(n), [&](std::int64_t first, std::int64_t last, std::int64_t) {
    const std::int64_t longest = std::min(ssd_chunk, n.tokens) * n.row();
    RowBuffer<E> x_rows(longest), y_rows(longest);
    for (std::int64_t unit = first; unit < last; ++unit) f.outputs(unit / count, begin + unit % count, x_rows, y_rows);
  });
}

void forward(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& chunk_states, Tensor& final_state) {
  for_floating_type("ssd_scan_forward", x.dtype(), [&]<class E>() {
    using T = Real<E>;
    const Sizes n(in);
    const Tensor wide_b = widened(in.b), wide_c = widened(in.c);  // small beside x
    Tensor between = chunk_states;  // if they are not kept, a ring that one sweep fills
    if (!between.defined() && n.chunks > 1)
      between = empty(Shape{n.batch, std::min(n.chunks - 1, ssd::sweep_chunks + 1), n.heads, n.width, n.states}, dtype_of<T>);
    const Forward<E> f{n,
                       data<E>(x),
                       data<T>(in.dt),
                       data<T>(in.a_log),
                       data<T>(wide_b),
                       data<T>(wide_c),
                       data<T>(in.d),
                       data<E>(y),
                       ssd::borders<T>(in.initial, between, final_state)};
    if (n.tokens == 1 && in.initial.defined() && final_state.defined()) {
      const std::int64_t heads_per_tile = std::max<std::int64_t>(1, elementwise_tile / n.head_state());
      parallel_tiles(n.batch * n.heads, heads_per_tile, [&](std::int64_t first, std::int64_t last, std::int64_t) {
        for (std::int64_t unit = first; unit < last; ++unit) f.step(unit / n.heads, unit % n.heads);
      });
      return;
    }
    for (std::int64_t chunk = 0; chunk < n.chunks; chunk += ssd::sweep_chunks) run_chunks(f, chunk, std::min(n.chunks, chunk + ssd::sweep_chunks));
  });
}

const bool added = add_cpu_floating_kernel(ssd_scan_forward, forward);

}  // namespace
}  // namespace mblm
