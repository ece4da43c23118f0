#include "mblm/utf8.h"

#include <string_view>
#include <utility>

namespace mblm {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string Utf8Decoder::push(std::uint8_t byte) {
  if (missing_ == 0) return start(byte);
  if (byte < lowest_ || byte > highest_) {
    const std::string cut = flush();  // before the byte starts the next character
    return cut + start(byte);
  }
  pending_ += static_cast<char>(byte);
  lowest_ = 0x80;
  highest_ = 0xBF;
  return --missing_ == 0 ? std::exchange(pending_, {}) : std::string{};
}

std::string Utf8Decoder::flush() {
  if (missing_ == 0) return {};
  missing_ = 0;
  pending_.clear();
  return std::string(replacement);
}

// The first byte of a character gives the number of bytes that follow. After some first bytes the second byte has a narrower
// range, which excludes overlong forms, surrogates and code points beyond U+10FFFF.
std::string Utf8Decoder::start(std::uint8_t byte) {
  if (byte < 0x80) return std::string(1, static_cast<char>(byte));
  if (byte < 0xC2 || byte > 0xF4) return std::string(replacement);
  missing_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  lowest_ = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
  highest_ = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  pending_.assign(1, static_cast<char>(byte));
  return {};
}

}  // namespace mblm
