// Checksums that detect damaged files. They do not protect against deliberate changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mblm {

// A 64-bit checksum of blocks of bytes, their lengths and their order. A change within one 8-byte word always changes it.
class Checksum {
 public:
  void add(const void* data, std::size_t bytes);
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::string text() const;  // 16 hexadecimal digits

 private:
  std::uint64_t value_ = 0;
};

}  // namespace mblm
