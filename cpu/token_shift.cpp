#include "ops/token_shift.h"

#include "cpu/kernel.h"

namespace mblm {
namespace {

struct Sizes {
  std::int64_t tokens, width, kept, moved;  // T, D, h = ceil(D / 2), D - h
  explicit Sizes(const Tensor& x) : tokens(x.size(1)), width(x.size(2)), kept(width - width / 2), moved(width / 2) {}
};

template <class T>
void copy_or_zero(const T* from, std::int64_t count, T* to) {
  if (from == nullptr)
    std::fill_n(to, count, T{});
  else
    std::copy_n(from, count, to);
}

// Each token copies two half rows. Memory bound: 8 bytes per element, no arithmetic.
void forward(const Tensor& x, const Tensor& previous, Tensor& y, Tensor& last) {
  for_floating_type("token_shift_forward", x.dtype(), [&]<class T>() {
    const Sizes s(x);
    const T *px = data<T>(x), *before = previous.defined() ? data<T>(previous) : nullptr;
    T *py = data<T>(y), *after = last.defined() ? data<T>(last) : nullptr;
    parallel_tiles(x.shape().rows(), rows_per_tile(s.width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t sequence = row / s.tokens, token = row % s.tokens;
        const T *in = px + row * s.width, *first = before == nullptr ? nullptr : before + sequence * s.moved;
        std::copy_n(in, s.kept, py + row * s.width);
        copy_or_zero(token > 0 ? in - s.moved : first, s.moved, py + row * s.width + s.kept);
        if (after != nullptr && token == s.tokens - 1) std::copy_n(in + s.kept, s.moved, after + sequence * s.moved);
      }
    });
  });
}

void backward(const Tensor& dy, const Tensor& dlast, Tensor& dx, Tensor& dprevious) {
  for_floating_type("token_shift_backward", dy.dtype(), [&]<class T>() {
    const Sizes s(dy);
    const T *pdy = data<T>(dy), *dafter = dlast.defined() ? data<T>(dlast) : nullptr;
    T *pdx = data<T>(dx), *dbefore = dprevious.defined() ? data<T>(dprevious) : nullptr;
    parallel_tiles(dy.shape().rows(), rows_per_tile(s.width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t sequence = row / s.tokens, token = row % s.tokens;
        const T *in = pdy + row * s.width, *next = dafter == nullptr ? nullptr : dafter + sequence * s.moved;
        std::copy_n(in, s.kept, pdx + row * s.width);
        copy_or_zero(token < s.tokens - 1 ? in + s.width + s.kept : next, s.moved, pdx + row * s.width + s.kept);
        if (dbefore != nullptr && token == 0) std::copy_n(in + s.kept, s.moved, dbefore + sequence * s.moved);
      }
    });
  });
}

const bool added = add_cpu_floating_kernel(token_shift_forward, forward) && add_cpu_floating_kernel(token_shift_backward, backward);

}  // namespace
}  // namespace mblm
