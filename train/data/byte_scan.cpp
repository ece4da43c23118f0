#include "train/data/byte_scan.h"

#include <algorithm>
#include <vector>

#include "engine/io/checksum.h"

namespace mblm {

double ByteScan::share_of(std::int64_t id) const {
  const bool is_byte = id >= 0 && id < std::ssize(counts);
  return is_byte && bytes > 0 ? static_cast<double>(counts[static_cast<std::size_t>(id)]) / static_cast<double>(bytes) : 0;
}

ByteScan scan_bytes(const ByteStream& stream, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t block = 1 << 18, most_blocks = longest_scan / block;
  const std::int64_t size = end - begin, blocks = std::min((size + block - 1) / block, most_blocks);
  ByteScan scan;
  Checksum sum;
  std::vector<std::uint8_t> bytes;
  for (std::int64_t i = 0; i < blocks; ++i) {
    // Blocks follow each other if all bytes are read; otherwise the last one ends at the end:
    // (size - block) i / (blocks - 1), without overflow.
    const std::int64_t at = size <= longest_scan ? i * block : (size - block) / (blocks - 1) * i + (size - block) % (blocks - 1) * i / (blocks - 1);
    bytes.resize(static_cast<std::size_t>(std::min(block, size - at)));
    stream.read(begin + at, bytes);
    for (const std::uint8_t byte : bytes) ++scan.counts[byte];
    scan.bytes += std::ssize(bytes);
    sum.add(bytes.data(), bytes.size());
  }
  scan.checksum = sum.text();
  return scan;
}

}  // namespace mblm
