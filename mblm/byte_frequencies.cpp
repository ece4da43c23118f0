#include "mblm/byte_frequencies.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/error.h"

namespace mblm {
namespace {

// 2^x for x <= 0, relative error below 2e-12; 0 below 2^-32, where the frequency is 1.
double power_of_two(double x) {
  constexpr double ln2 = 0x1.62e42fefa39efp-1, least = -32;
  const double bounded = x < least ? least : x;
  const auto whole = static_cast<std::int32_t>(bounded);  // towards 0
  const double t = (bounded - static_cast<double>(whole)) * ln2;  // in (-ln 2, 0]
  double power = 1;  // Taylor series of exp(t)
  for (int n = 12; n > 0; --n) power = 1 + power * t * (1.0 / n);
  const double scale = std::bit_cast<double>(static_cast<std::uint64_t>(1023 + whole) << 52);
  return x < least ? 0 : power * scale;
}

}  // namespace

Frequencies ByteFrequencies::of(std::span<const float> logits) {
  constexpr double log2_e = 0x1.71547652b82fep+0, largest_frequency = 0x7fffffff;
  const std::span<const float> bytes = logits.first(std::min<std::size_t>(logits.size(), 256));
  double largest = -HUGE_VAL;
  for (const float logit : bytes) {
    const auto value = static_cast<double>(logit);
    require<ValueError>(!std::isnan(value), "compress: a logit is NaN");
    largest = std::max(largest, value);
  }
  require<ValueError>(std::isfinite(largest), "compress: expected a finite largest logit, got ", largest);
  frequencies_.resize(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const double share = power_of_two((static_cast<double>(bytes[i]) - largest) * log2_e);
    frequencies_[i] = 1 + static_cast<std::uint32_t>(static_cast<std::int32_t>(share * (largest_frequency - 1)));
  }
  return frequencies_;
}

}  // namespace mblm
