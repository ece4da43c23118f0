// Hashes that identify content. They do not protect against deliberate changes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace mblm {

// The 128-bit XXH3 hash (xxhash) of a sequence of bytes. It does not depend on how the bytes are split into calls, and is the same on
// all machines: it may be stored in files.
class Hash {
 public:
  Hash();
  ~Hash();
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;

  void add(const void* data, std::size_t bytes);
  void add(std::string_view text) { add(text.data(), text.size()); }
  // Adds the length, then the text, so that the boundaries between several texts count.
  void add_sized(std::string_view text);

  // Of the bytes so far; more may follow.
  std::array<std::byte, 16> digest() const;  // in the canonical (big-endian) order of xxhash
  std::uint64_t short_digest() const;        // its first 8 bytes as a big-endian number
  std::string text() const;                  // 32 hexadecimal digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mblm
