// Zip files of uncompressed records, as torch.load reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/io/atomic_file.h"

namespace mblm {

// Writes records in sequence without seeking, since sizes and checksums (CRC-32) are known in advance. Format:
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
class ZipWriter {
 public:
  // Sizes and offsets of at least `zip64_from` are written as 64-bit numbers, smaller ones as 32-bit numbers.
  explicit ZipWriter(AtomicFile& file, std::uint64_t zip64_from = 0xffffffff) : file_(file), zip64_from_(zip64_from) {}

  // The data begins at a multiple of 64 bytes in the file, so that it can be used without a copy. `name` has less than 2^16 bytes.
  void add(const std::string& name, const void* data, std::size_t bytes);
  // Writes the directory. Call once, after the last record.
  void finish();

 private:
  void write(const std::string& bytes);

  AtomicFile& file_;
  const std::uint64_t zip64_from_;
  std::uint64_t at_ = 0, records_ = 0;
  std::string directory_;
};

}  // namespace mblm
