// Reads the bytes of a text once, to describe them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "train/data/byte_stream.h"

namespace mblm {

struct ByteScan {
  std::array<std::int64_t, 256> counts{};  // how often each byte appears
  std::int64_t bytes = 0;                  // that were read
  std::string checksum;                    // of these bytes

  double share_of(std::int64_t id) const;  // 0 for an id above 255
};

inline constexpr std::int64_t longest_scan = std::int64_t{256} << 20;  // bytes

// Scans bytes [begin, end) of a stream: all of them, or of more than longest_scan bytes that many, in blocks that are spread evenly and
// include the first and the last byte. Throws FileError.
ByteScan scan_bytes(const ByteStream& stream, std::int64_t begin, std::int64_t end);

}  // namespace mblm
