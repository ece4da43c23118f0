#include "engine/io/hash.h"

#define XXH_INLINE_ALL  // the functions become part of this file: nothing to link
#include <xxhash.h>

namespace mblm {

struct Hash::State {
  XXH3_state_t xxh3;
};

Hash::Hash() : state_(new State) { XXH3_128bits_reset(&state_->xxh3); }
Hash::~Hash() = default;
Hash::Hash(Hash&&) noexcept = default;
Hash& Hash::operator=(Hash&&) noexcept = default;

void Hash::add(const void* data, std::size_t bytes) {
  if (bytes > 0) XXH3_128bits_update(&state_->xxh3, data, bytes);
}

void Hash::add_sized(std::string_view text) {
  std::array<unsigned char, 8> length;
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<unsigned char>(text.size() >> 8 * i);
  add(length.data(), length.size());
  add(text);
}

std::array<std::byte, 16> Hash::digest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->xxh3));
  std::array<std::byte, 16> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte{canonical.digest[i]};
  return bytes;
}

std::uint64_t Hash::short_digest() const {
  const std::array<std::byte, 16> bytes = digest();
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i) number = number << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return number;
}

std::string Hash::text() const {
  std::string text;
  for (const std::byte byte : digest())
    for (const int shift : {4, 0}) text += "0123456789abcdef"[std::to_integer<int>(byte) >> shift & 15];
  return text;
}

}  // namespace mblm
