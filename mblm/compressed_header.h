// The header of a compressed file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mblm/model.h"

namespace mblm {

// What decides the bits of a model's predictions.
struct PredictionBits {
  std::uint64_t model = 0;   // the first 8 bytes of model_hash
  std::uint64_t build = 0;   // of the hash of build_name (engine/build.h)
  std::uint8_t precision = 0;  // 0: float32, 1: bfloat16, 2: float64
  std::string instructions;  // instruction_set
  std::string device;        // device_model

  static PredictionBits of(const Model& model);
};

// A compressed file is a header and the code of each stream in order. All numbers are little-endian:
//   8d 4d 42 4c   magic
//   1             version
//   1             precision
//   2             number of streams S, 1 to 256
//   8             hash of everything except these 8 bytes
//   8             model, 8 build
//   8             bytes of the content
//   8             hash of the content: of the hashes of its streams
//   1 + n         length and text of the instruction set
//   1 + n         length and text of the device
//   8 (S - 1)     bytes of the code of each stream but the last
// Hashes are the first 8 bytes of Hash (engine/io/hash.h).
struct CompressedHeader {
  PredictionBits bits;
  std::uint64_t file_hash = 0, content_bytes = 0, content_hash = 0;
  std::vector<std::uint64_t> code_bytes;  // per stream

  static constexpr std::size_t largest_size = 4 + 1 + 1 + 2 + 8 * 5 + 2 * 256 + 8 * 255;
  static constexpr int most_streams = 256;

  std::size_t size() const { return bytes().size(); }
  // The header with its file_hash.
  std::vector<std::uint8_t> bytes() const;
  // The hash of the file, given the hash of the codes.
  std::uint64_t hash_of_file(std::uint64_t codes) const;

  // Reads a header from the first bytes of a file of `file_bytes` bytes, min(largest_size, file_bytes) of them. Throws FileError, which
  // names `file`, for another magic or version and when the file cannot have this header.
  static CompressedHeader read(std::span<const std::uint8_t> start, std::uint64_t file_bytes, const std::string& file);
  // Throws FileError, which names `file` and each difference, unless the file was made with the same bits.
  void check_bits(const PredictionBits& here, const std::string& file) const;
};

}  // namespace mblm
