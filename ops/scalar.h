// Scalar formulas that the backends share, for host and device code. They have no branches, so that the compiler vectorises them
// in `#pragma omp simd` loops. The float forms are accurate to about one unit in the last place. The double forms of exp, tanh,
// log1p_unit and erf call the standard library and serve the tests.
// GPU code uses CUDA's exp, tanh and erf, which need half the instructions and are accurate to two units, and approximate division.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "engine/dtype.h"

namespace mblm::scalar {

// a / b. On a GPU within two units, and 0 for |b| > 2^126.
MBLM_HOST_DEVICE inline float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdividef(a, b);
#else
  return a / b;
#endif
}
MBLM_HOST_DEVICE inline double quotient(double a, double b) { return a / b; }

// e^x. Cody-Waite reduction by ln 2 in two parts, then a degree-7 polynomial on [-ln2/2, ln2/2]. The result is 0 below -87 (as
// with flushed denormals) and infinity above 88.73; NaN stays NaN. Only the two bounds are compared, and nothing is converted: the
// lowest bits of the sum with 1.5 2^23 hold the rounded quotient k.
MBLM_HOST_DEVICE inline float exp(float x) {
#ifdef __CUDA_ARCH__
  return ::expf(x);
#else
  constexpr float shift = 12582912.0f;
  const float above = x < -87.33654f ? -87.33654f : x, bounded = above > 88.8f ? 88.8f : above;
  const float shifted = bounded * 1.44269504f + shift, k = shifted - shift;
  const float r = (bounded - k * 0.693145752f) - k * 1.42860677e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  // 2 p times 2^(k - 1), which is finite for k = 128 and 0 for k = -126.
  return (p + p) * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 126u) << 23);
#endif
}
MBLM_HOST_DEVICE inline double exp(double x) { return std::exp(x); }

// 1 / (1 + e^-x); 0 where e^-x is infinite.
template <class T>
MBLM_HOST_DEVICE inline T sigmoid(T x) {
  return quotient(T(1), T(1) + exp(-x));
}

// tanh x. For |x| < 1 the continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))) to its seventh term, with an error below 3e-12;
// otherwise 1 - 2 / (1 + e^2|x|) with the sign of x.
MBLM_HOST_DEVICE inline float tanh(float x) {
#ifdef __CUDA_ARCH__
  return ::tanhf(x);
#else
  const float a = std::fabs(x), s = x * x;
  const float numerator = ((s + 378.0f) * s + 17325.0f) * s + 135135.0f, denominator = ((28.0f * s + 3150.0f) * s + 62370.0f) * s + 135135.0f;
  const float large = std::copysign(1.0f - 2.0f / (1.0f + exp(a + a)), x);
  return a < 1.0f ? x * numerator / denominator : large;
#endif
}
MBLM_HOST_DEVICE inline double tanh(double x) { return std::tanh(x); }

// log(1 + x) for x in [0, 1], by the atanh series: log(1 + x) = 2 atanh(s), s = x / (2 + x), |s| <= 1/3.
MBLM_HOST_DEVICE inline float log1p_unit(float x) {
  const float s = quotient(x, 2.0f + x), z = s * s;
  float p = 0.0952380952f;
  p = p * z + 0.105263158f;
  p = p * z + 0.117647059f;
  p = p * z + 0.133333333f;
  p = p * z + 0.153846154f;
  p = p * z + 0.181818182f;
  p = p * z + 0.222222222f;
  p = p * z + 0.285714286f;
  p = p * z + 0.4f;
  p = p * z + 0.666666667f;
  return 2.0f * s + s * z * p;
}
MBLM_HOST_DEVICE inline double log1p_unit(double x) { return std::log1p(x); }

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which neither overflows nor loses digits for large |x|. The slope is sigmoid(x).
template <class T>
MBLM_HOST_DEVICE inline T softplus(T x) {
  return (x > 0 ? x : T(0)) + log1p_unit(exp(x > 0 ? -x : x));
}

// erf, absolute error below 1e-7: an odd minimax polynomial for small |x|, 1 - exp(-polynomial) above.
MBLM_HOST_DEVICE inline float erf(float x) {
#ifdef __CUDA_ARCH__
  return ::erff(x);
#else
  const float a = std::fabs(x), s = x * x;
  float p = -5.61801775e-4f;
  p = p * s + 4.91381792e-3f;
  p = p * s - 2.67075151e-2f;
  p = p * s + 1.12800106e-1f;
  p = p * s - 3.76122952e-1f;
  p = p * s + 1.28379107e-1f;
  const float small = p * x + x;
  float r = (-1.72853470e-5f * a + 3.83197126e-4f) * s + (-3.88396438e-3f * a + 2.42546219e-2f);
  r = r * a - 1.06777877e-1f;
  r = r * a - 6.34846687e-1f;
  r = r * a - 1.28717512e-1f;
  r = r * a - a;
  const float large = std::copysign(1.0f - exp(r), x);
  return a > 0.927734375f ? large : small;
#endif
}
MBLM_HOST_DEVICE inline double erf(double x) { return std::erf(x); }

// Phi(x) = (1 + erf(x / sqrt 2)) / 2, the standard normal distribution function.
template <class T>
MBLM_HOST_DEVICE inline T normal_distribution(T x) {
  return T(0.5) + T(0.5) * erf(x * static_cast<T>(1 / std::numbers::sqrt2));
}

// Phi'(x) = exp(-x^2 / 2) / sqrt(2 pi)
template <class T>
MBLM_HOST_DEVICE inline T normal_density(T x) {
  return exp(T(-0.5) * x * x) * static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
}

// gelu = x Phi(x); its slope is Phi(x) + x Phi'(x).
template <class T>
MBLM_HOST_DEVICE inline T gelu(T x) {
  return x * normal_distribution(x);
}
template <class T>
MBLM_HOST_DEVICE inline T gelu_slope(T x) {
  return normal_distribution(x) + x * normal_density(x);
}

// silu = x s; its slope is s (1 + x (1 - s)), where s = sigmoid(x). silu_slope takes s, because the gate's gradient also needs it.
template <class T>
MBLM_HOST_DEVICE inline T silu(T x) {
  return x * sigmoid(x);
}
template <class T>
MBLM_HOST_DEVICE inline T silu_slope(T x, T s) {
  return s * (1 + x * (1 - s));
}

// One step of AdamW for one element: g = clip gradient; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2;
// value = keep value - step_size m / (sqrt(v) / root_correction2 + eps). `keep` is 1, or `AdamFactors::decay` with weight decay.
template <class T>
struct AdamFactors {
  T clip;               // factor of the gradient
  T beta1_rest;         // 1 - beta1
  T beta2, beta2_rest;  // beta2, 1 - beta2
  T step_size;          // learning rate / (1 - beta1^step)
  T root_correction2;   // sqrt(1 - beta2^step)
  T eps;
  T decay;              // 1 - learning rate weight_decay
};
template <class T>
MBLM_HOST_DEVICE inline void adam_update(const AdamFactors<T>& f, T keep, T gradient, T& value, T& first_moment, T& second_moment) {
  const T g = gradient * f.clip;
  const T m = first_moment + f.beta1_rest * (g - first_moment);
  const T v = f.beta2 * second_moment + f.beta2_rest * g * g;
  first_moment = m;
  second_moment = v;
  value = keep * value - f.step_size * m / (std::sqrt(v) / f.root_correction2 + f.eps);
}

// (rotated_a, rotated_b) = the pair (a, b) rotated by the angle with that cosine and sine.
template <class T>
MBLM_HOST_DEVICE inline void rotate_pair(T a, T b, T cosine, T sine, T& rotated_a, T& rotated_b) {
  rotated_a = a * cosine - b * sine;
  rotated_b = b * cosine + a * sine;
}

}  // namespace mblm::scalar
