// Bytes as UTF-8 text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mblm {

// Decodes bytes to well-formed UTF-8, one byte at a time. Each maximal subpart of a malformed sequence becomes one U+FFFD
// (Unicode standard, "U+FFFD substitution of maximal subparts").
class Utf8Decoder {
 public:
  // Returns the text that this byte completes; empty inside a character.
  std::string push(std::uint8_t byte);
  // Ends the stream: returns U+FFFD for a truncated character, else an empty string.
  std::string flush();
  // Bytes of a character that has not been completed: the text so far does not contain them.
  std::size_t pending() const { return pending_.size(); }

 private:
  std::string start(std::uint8_t byte);

  std::string pending_;                      // well-formed prefix of a character
  int missing_ = 0;                          // bytes that pending_ lacks
  std::uint8_t lowest_ = 0, highest_ = 0;    // range of the next byte
};

}  // namespace mblm
