// float16 elements of files, which are read as float32.
#pragma once

#include <bit>
#include <cstdint>

namespace mblm {

// The float32 of the same value (IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits). A NaN keeps its fraction bits.
inline float float_of_float16(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0) {  // fraction * 2^-24
    const float tiny = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -tiny : tiny;
  }
  const std::uint32_t high = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | high << 23 | fraction << 13);
}

}  // namespace mblm
