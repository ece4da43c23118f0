// Checksums that tell a damaged file from a whole one. They are no protection against intent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mblm {

// 64 bits over blocks of bytes, their lengths and their order. A change within any one 8-byte word always changes them.
class Checksum {
 public:
  void add(const void* data, std::size_t bytes);
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::string text() const;  // 16 hexadecimal digits

 private:
  std::uint64_t value_ = 0;
};

}  // namespace mblm
