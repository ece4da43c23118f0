// Initial values that both Mamba blocks share (spec: "Initial values").
#pragma once

#include <algorithm>
#include <cmath>

#include "engine/parameters.h"

namespace mblm {

// softplus^-1(dt), with dt log-uniform in [1e-3, 1e-1] and at least 1e-4.
inline Init mamba_dt_bias() {
  return {[](RandomKey key, std::span<float> values, std::int64_t) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double low = std::log(1e-3), high = std::log(1e-1);
      const double dt = std::max(std::exp(low + (high - low) * static_cast<double>(random_uniform(key, i))), 1e-4);
      values[i] = static_cast<float>(dt + std::log(-std::expm1(-dt)));
    }
  }};
}

// log(u), with u uniform in [1, 16).
inline Init mamba2_a_log() {
  return {[](RandomKey key, std::span<float> values, std::int64_t) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::log(1.0f + 15.0f * random_uniform(key, i));
  }};
}

// log(1), ..., log(S) in each row.
inline Init mamba1_a_log() {
  return {[](RandomKey, std::span<float> values, std::int64_t width) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::log(static_cast<float>(static_cast<std::int64_t>(i) % width + 1));
  }};
}

}  // namespace mblm
