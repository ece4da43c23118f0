#include "engine/io/checksum.h"

#include <array>
#include <cstring>

namespace mblm {
namespace {

constexpr std::size_t lanes = 4;  // independent chains, so that the multiplications overlap

// A bijection in each argument, so a difference is never lost.
std::uint64_t mix(std::uint64_t value, std::uint64_t word) {
  const std::uint64_t product = (value ^ word) * 0x9E3779B97F4A7C15u;
  return product ^ product >> 32;
}

}  // namespace

void Checksum::add(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const std::byte*>(data);
  std::array<std::uint64_t, lanes> chains{1, 2, 3, 4}, words{};
  for (std::size_t left = bytes; left > 0;) {
    const std::size_t size = left < sizeof words ? left : sizeof words;
    if (size < sizeof words) words.fill(0);
    std::memcpy(words.data(), next, size);
    for (std::size_t lane = 0; lane < lanes; ++lane) chains[lane] = mix(chains[lane], words[lane]);
    next += size;
    left -= size;
  }
  value_ = mix(value_, bytes);
  for (const std::uint64_t chain : chains) value_ = mix(value_, chain);
}

std::string Checksum::text() const {
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[value_ >> shift & 15];
  return text;
}

}  // namespace mblm
