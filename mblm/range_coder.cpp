#include "mblm/range_coder.h"

#include <numeric>
#include <utility>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::uint64_t largest_total = std::uint64_t{1} << 40;
constexpr int byte_shift = 56;  // of the first of 8 bytes
// A range below this has lost its first byte to the code. It stays above 2^56, so a unit of the total is at least 2^16.
constexpr std::uint64_t smallest_range = std::uint64_t{1} << byte_shift;

std::uint64_t checked_total(Frequencies frequencies) {
  const std::uint64_t total = total_of(frequencies);
  require<ValueError>(total > 0 && total <= largest_total, "range coder: expected a total in [1, 2^40], got ", total);
  return total;
}

}  // namespace

std::uint64_t total_of(Frequencies frequencies) { return std::accumulate(frequencies.begin(), frequencies.end(), std::uint64_t{0}); }

void RangeEncoder::encode(Frequencies frequencies, std::size_t symbol) {
  const std::uint64_t unit = range_ / checked_total(frequencies);
  require<ValueError>(symbol < frequencies.size() && frequencies[symbol] > 0, "range coder: symbol ", symbol, " has no frequency");
  const std::uint64_t before = low_;
  low_ += unit * total_of(frequencies.first(symbol));
  carry_ = carry_ || low_ < before;
  range_ = unit * frequencies[symbol];
  while (range_ < smallest_range) {
    shift_out();
    range_ <<= 8;
  }
}

// Moves the first byte of low_ to the code.
void RangeEncoder::shift_out() {
  const auto first = static_cast<std::uint8_t>(low_ >> byte_shift);
  if (carry_ || first != 0xff) {  // a later carry can reach no further than `first`
    if (holds_) bytes_.push_back(static_cast<std::uint8_t>(held_ + carry_));
    bytes_.insert(bytes_.end(), ones_, static_cast<std::uint8_t>(carry_ ? 0x00 : 0xff));
    held_ = first;
    holds_ = true;
    ones_ = 0;
    carry_ = false;
  } else {
    ++ones_;
  }
  low_ <<= 8;
}

void RangeEncoder::finish() {
  // The number with the fewest bytes in the interval: a multiple of 2^56, at most low_ + 2^56 - 1.
  const std::uint64_t before = low_;
  low_ += smallest_range - 1;
  carry_ = carry_ || low_ < before;
  low_ &= ~(smallest_range - 1);
  const bool is_zero = low_ == 0;
  shift_out();                 // writes what waits before it
  if (!is_zero) shift_out();  // writes the byte itself
}

RangeDecoder::RangeDecoder(std::function<std::uint8_t()> next_byte) : next_byte_(std::move(next_byte)) {
  for (int i = 0; i < 8; ++i) offset_ = offset_ << 8 | next_byte_();
}

std::size_t RangeDecoder::decode(Frequencies frequencies) {
  const std::uint64_t unit = range_ / checked_total(frequencies);
  std::uint64_t at = offset_ / unit;
  std::size_t symbol = 0, last = 0;
  for (; symbol < frequencies.size(); ++symbol) {
    if (frequencies[symbol] > 0) last = symbol;
    if (at < frequencies[symbol]) break;
    at -= frequencies[symbol];
  }
  symbol = last;
  offset_ -= unit * total_of(frequencies.first(symbol));
  range_ = unit * frequencies[symbol];
  while (range_ < smallest_range) {
    offset_ = offset_ << 8 | next_byte_();
    range_ <<= 8;
  }
  return symbol;
}

}  // namespace mblm
