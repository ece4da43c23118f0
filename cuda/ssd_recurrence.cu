// The recurrence of Mamba-2 token by token, with one order of operations for every token.
#include "cuda/ssd_tile.h"

namespace mblm::cuda::ssd {
namespace {

constexpr int threads = 128, warps = threads / warp_size;

template <class T>
struct Arguments {
  Sizes n;
  const T *x, *b, *c;
  const float *dt, *a_log, *d;
  const float* first;  // h before the first token, or null
  float* last;         // h after the last token; null only if h is in registers
  T* y;
};

// A warp per row of h. Lane l has the states s = 32 i + l, `count` of them in registers; 0: any number, in `last`. Per token, a row reads
// the b and c of its sequence from the caches; 5 S FLOPs and one sum over the warp. Arithmetic is float32.
template <class T, int count>
__global__ void __launch_bounds__(threads) recur(Arguments<T> in) {
  const Sizes& n = in.n;
  const std::int64_t row = std::int64_t{blockIdx.x} * warps + threadIdx.x / warp_size;  // of all sequences
  if (row >= n.batch * n.row()) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t sequence = row / n.row(), in_sequence = row % n.row(), head = in_sequence / n.width;
  const float rate = expf(in.a_log[head]), d = in.d[head];
  float h[count > 0 ? count : 1] = {};
  if constexpr (count > 0) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int s = i * warp_size + lane;
      if (in.first != nullptr && s < n.states) h[i] = in.first[row * n.states + s];
    }
  } else {
    for (std::int64_t s = lane; s < n.states; s += warp_size) in.last[row * n.states + s] = in.first == nullptr ? 0.0f : in.first[row * n.states + s];
  }
  for (std::int64_t t = 0; t < n.tokens; ++t) {
    const std::int64_t token = sequence * n.tokens + t;
    const float dt = in.dt[token * n.heads + head], x = to_float(in.x[token * n.row() + in_sequence]), keep = expf(-rate * dt), dtx = dt * x;
    const T *b = in.b + token * n.states, *c = in.c + token * n.states;
    float y = 0;
    const auto advance = [&](float& state, std::int64_t s) {
      state = fmaf(keep, state, dtx * to_float(b[s]));
      y = fmaf(state, to_float(c[s]), y);
    };
    if constexpr (count > 0) {
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (i * warp_size + lane < n.states) advance(h[i], i * warp_size + lane);
    } else {
      for (std::int64_t s = lane; s < n.states; s += warp_size) advance(in.last[row * n.states + s], s);
    }
    y = warp_sum(y);
    if (lane == 0) in.y[token * n.row() + in_sequence] = from_float<T>(fmaf(d, x, y));
  }
  if constexpr (count > 0) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int s = i * warp_size + lane;
      if (in.last != nullptr && s < n.states) in.last[row * n.states + s] = h[i];
    }
  }
}

void forward(const Tensor& x, const SsdScanInputs& in, Tensor& y, Tensor& final_state) {
  if (y.numel() == 0) return;
  for_element_type("ssd_recurrence_forward", x.dtype(), [&]<class T>() {
    const Sizes n(in);
    const std::int64_t per_lane = divide_up(n.states, warp_size);
    Tensor last = final_state;
    if (per_lane > 8 && !last.defined()) last = empty(Shape{n.batch, n.heads, n.width, n.states}, DType::Float32, x.device());
    const Arguments<T> arguments{n,
                                 data<T>(x),
                                 data<T>(in.b),
                                 data<T>(in.c),
                                 data<float>(in.dt),
                                 data<float>(in.a_log),
                                 data<float>(in.d),
                                 static_cast<const float*>(raw(in.initial)),
                                 static_cast<float*>(raw(last)),
                                 data<T>(y)};
    const unsigned blocks = blocks_for(n.batch * n.row(), warps);
    if (per_lane <= 1)
      launch<recur<T, 1>>(blocks, threads, 0, arguments);
    else if (per_lane <= 2)
      launch<recur<T, 2>>(blocks, threads, 0, arguments);
    else if (per_lane <= 4)
      launch<recur<T, 4>>(blocks, threads, 0, arguments);
    else if (per_lane <= 8)
      launch<recur<T, 8>>(blocks, threads, 0, arguments);
    else
      launch<recur<T, 0>>(blocks, threads, 0, arguments);
  });
}

const bool added = add_kernel(ssd_recurrence_forward, forward);

}  // namespace
}  // namespace mblm::cuda::ssd
