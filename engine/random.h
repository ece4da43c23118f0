// Stateless random numbers: a number is a function of (seed, site, step, element), computed by Philox 4x32-10
// (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011). Recomputation, slices, resumed runs, ranks and
// devices agree because there is no state to synchronize.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "engine/dtype.h"

namespace mblm {

// Identifies a stream of numbers. `site` identifies the layer or parameter, `step` is the micro-step.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
  std::uint32_t step = 0;
};

// 32-bit FNV-1a: the site of a name. Two names may have the same; RandomSites (engine/random_sites.h) keeps the names of a model apart.
constexpr std::uint32_t site_of(std::string_view name) {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// Four words of 32 bits; device code cannot use std::array.
struct RandomWords {
  std::uint32_t word[4];

  MBLM_HOST_DEVICE std::uint32_t operator[](std::uint64_t i) const { return word[i]; }
  bool operator==(const RandomWords&) const = default;
};

// The random words of block `block` of the stream.
MBLM_HOST_DEVICE inline RandomWords philox(RandomKey key, std::uint64_t block) {
  std::uint32_t c0 = static_cast<std::uint32_t>(block), c1 = static_cast<std::uint32_t>(block >> 32), c2 = key.site, c3 = key.step;
  std::uint32_t k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

MBLM_HOST_DEVICE inline std::uint32_t random_word(RandomKey key, std::uint64_t element) { return philox(key, element / 4)[element % 4]; }

// Uniform in [0, 1) with 24 bits, exact in float32.
MBLM_HOST_DEVICE inline float random_uniform(RandomKey key, std::uint64_t element) {
  return static_cast<float>(random_word(key, element) >> 8) * 0x1p-24f;
}

// Standard normal by the Box-Muller transform, from two words per element.
MBLM_HOST_DEVICE inline float random_normal(RandomKey key, std::uint64_t element) {
  const RandomWords words = philox(key, element / 2);
  const std::uint64_t first = element % 2 * 2;
  const double u = (static_cast<double>(words[first]) + 1.0) * 0x1p-32, v = static_cast<double>(words[first + 1]) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
}

// Element i of a permutation of 0 .. n-1 that depends only on the key (a Feistel network with cycle walking, so that no table
// of size n is stored). Throws ValueError unless i < n.
std::uint64_t random_permutation(RandomKey key, std::uint64_t n, std::uint64_t i);

}  // namespace mblm
