// Generated ids as output: text for people, raw bytes, or decimal numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace mblm {

// Bytes to well-formed UTF-8, one byte at a time. A malformed sequence becomes U+FFFD, once per longest part that could
// have begun a character (Unicode standard, "U+FFFD substitution of maximal subparts").
class Utf8Decoder {
 public:
  // The text that is certain once this byte is known; empty in the midst of a character.
  std::string push(std::uint8_t byte);
  // Ends the stream: U+FFFD for a character that was cut, else nothing.
  std::string flush();

 private:
  std::string start(std::uint8_t byte);

  std::string pending_;                      // a well-formed beginning
  int missing_ = 0;                          // bytes that it lacks
  std::uint8_t lowest_ = 0, highest_ = 0;    // of its next byte
};

enum class OutputForm { Text, Raw, Ids };

// Turns a stream of ids into text for `write`. Ids above 255 have no byte: they show in Ids form only.
class ByteWriter {
 public:
  ByteWriter(OutputForm form, std::function<void(std::string_view)> write) : form_(form), write_(std::move(write)) {}

  void put(std::int64_t id);
  // Ends one sequence; the next one starts afresh.
  void finish();

 private:
  OutputForm form_;
  std::function<void(std::string_view)> write_;
  Utf8Decoder decoder_;
  bool first_ = true;
};

}  // namespace mblm
