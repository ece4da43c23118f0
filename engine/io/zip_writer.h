// Zip files of records that are stored as they are, which is what torch.load reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/io/atomic_file.h"

namespace mblm {

// Writes records one after the other, without going back: sizes and checksums (CRC-32) are known beforehand. Format:
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
class ZipWriter {
 public:
  // Sizes and places from `zip64_from` on are written as 64-bit numbers; below it, in 32 bits.
  explicit ZipWriter(AtomicFile& file, std::uint64_t zip64_from = 0xffffffff) : file_(file), zip64_from_(zip64_from) {}

  // Bytes begin at a multiple of 64 in the file, so that they can be used where they lie. `name` has less than 2^16 bytes.
  void add(const std::string& name, const void* data, std::size_t bytes);
  // The list of the records. Call once, after the last of them.
  void finish();

 private:
  void write(const std::string& bytes);

  AtomicFile& file_;
  const std::uint64_t zip64_from_;
  std::uint64_t at_ = 0, records_ = 0;
  std::string directory_;
};

}  // namespace mblm
