// A range coder (G. N. N. Martin, "Range encoding", 1979): codes symbols with given frequencies in nearly as few bits as their
// information content. Encoder and decoder need the same frequencies for each symbol.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace mblm {

// The frequencies of symbols 0, 1, ... of one position. Each symbol has 0 to 2^32 - 1 of `total`, their sum, which is at most 2^40.
// The coder loses at most 2^-16 of a symbol's share by rounding.
using Frequencies = std::span<const std::uint32_t>;
std::uint64_t total_of(Frequencies frequencies);

class RangeEncoder {
 public:
  // Throws ValueError for a symbol that has no frequency and for a total above 2^40.
  void encode(Frequencies frequencies, std::size_t symbol);
  // Ends the code, with no more bytes than needed: the decoder reads zeros after the last one.
  void finish();

  // The bytes that are final. The caller may take them away at any time.
  std::vector<std::uint8_t>& bytes() { return bytes_; }

 private:
  void shift_out();

  // The interval [low_, low_ + range_) in units of the next 8 bytes. Bytes that a carry may still change wait: `held_`, then
  // `ones_` bytes 255.
  std::uint64_t low_ = 0, range_ = ~std::uint64_t{0};
  bool carry_ = false, holds_ = false;
  std::uint8_t held_ = 0;
  std::uint64_t ones_ = 0;
  std::vector<std::uint8_t> bytes_;
};

class RangeDecoder {
 public:
  // `next_byte` returns the bytes of the code, and zeros after its end.
  explicit RangeDecoder(std::function<std::uint8_t()> next_byte);

  // Returns the next symbol. For a code that no encoder wrote that is some symbol with a frequency. Throws ValueError for a total of
  // 0 or above 2^40.
  std::size_t decode(Frequencies frequencies);

 private:
  std::function<std::uint8_t()> next_byte_;
  std::uint64_t offset_ = 0;  // of the code in the interval
  std::uint64_t range_ = ~std::uint64_t{0};
};

}  // namespace mblm
