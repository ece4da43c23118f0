#include "ops/rotary.h"

#include "cuda/kernel.h"
#include "ops/scalar.h"

namespace mblm::cuda {
namespace {

constexpr unsigned threads = 256;
constexpr int heads_per_thread = 8;  // share the angles of a thread; in a group of 4 the loads overlap

// cos and sin of an angle of any size, with absolute errors below 2e-8: the angle is reduced in float64 by the nearest multiple of pi/2,
// whose two parts keep 2^-53 of absolute accuracy up to 2^27, and the Taylor polynomials are evaluated in float64 for |x| <= pi/4.
__device__ __forceinline__ void cos_sin(double angle, float& cosine, float& sine) {
  const double quarters = rint(angle * 0.63661977236758134308);
  const double x = (angle - quarters * 1.57079632673412561417) - quarters * 6.07710050650619224932e-11, z = x * x;
  const double s = x * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880)))));
  const double c = 1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800)))));
  const int quadrant = static_cast<int>(static_cast<std::int64_t>(quarters) & 3);
  const float even = static_cast<float>(quadrant % 2 == 0 ? c : s), odd = static_cast<float>(quadrant % 2 == 0 ? s : c);
  cosine = quadrant == 1 || quadrant == 2 ? -even : even;
  sine = quadrant >= 2 ? -odd : odd;
}
