// Functions of whole vectors, for kernels that hold a recurrence in vector registers: loops over lanes leave that to the
// compiler, which keeps such values in memory.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cpu/lanes.h"

namespace mblm {

// 2^x for x <= 127. Near-minimax polynomial of degree 6 on [-1/2, 1/2]; the sum with 1.5 2^23 has the rounded x in its
// lowest bits. Error below 1.2 units in the last place. Below -126.5 the result is 0; NaN stays NaN.
inline Lanes<float> fast_exp2(const Lanes<float>& x) {
  using Bits = Lanes<std::uint32_t>;
  constexpr float shift = 12582912.0f;
  const Lanes<float> lowest = Lanes<float>{} - 127.0f, bounded = x < lowest ? lowest : x, shifted = bounded + shift, r = bounded - (shifted - shift);
  Lanes<float> p = r * 1.54531634e-4f + 1.33908633e-3f;
  p = p * r + 9.61808302e-3f;
  p = p * r + 5.5503570e-2f;
  p = p * r + 2.40226507e-1f;
  p = p * r + 6.93147182e-1f;
  p = p * r + 1.0f;
  return p * std::bit_cast<Lanes<float>>((std::bit_cast<Bits>(shifted) + 127u) << 23);
}
inline Lanes<double> fast_exp2(const Lanes<double>& x) {
  Lanes<double> y{};
  for (std::int64_t i = 0; i < lane_count<double>; ++i) y[i] = std::exp2(x[i]);
  return y;
}

}  // namespace mblm
