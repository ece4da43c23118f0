#include "ops/argmax_matches.h"

#include <algorithm>

#include "cpu/kernel.h"

namespace mblm {
namespace {

template <class T>
bool is_argmax(const T* row, std::int64_t width, std::int64_t target) {
  if (target < 0 || target >= width) return false;
  const T* at = row + target;
  return std::all_of(row, at, [=](T logit) { return logit < *at; }) && std::all_of(at, row + width, [=](T logit) { return logit <= *at; });
}

void forward(const Tensor& logits, const Tensor& targets, Tensor& y) {
  for_real_type("argmax_matches_forward", logits.dtype(), [&]<class T>() {
    const std::int64_t width = logits.shape().last();
    const T* x = data<T>(logits);
    const std::int64_t* t = data<std::int64_t>(targets);
    std::uint8_t* matches = data<std::uint8_t>(y);
    parallel_tiles(targets.numel(), rows_per_tile(width), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t row = begin; row < end; ++row) matches[row] = is_argmax(x + row * width, width, t[row]);
    });
  });
}

const bool added = add_cpu_kernel(argmax_matches_forward, forward);

}  // namespace
}  // namespace mblm
