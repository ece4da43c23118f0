// Output of generated ids: as text, raw bytes or decimal numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace mblm {

// Decodes bytes to well-formed UTF-8, one byte at a time. Each maximal subpart of a malformed sequence becomes one U+FFFD
// (Unicode standard, "U+FFFD substitution of maximal subparts").
class Utf8Decoder {
 public:
  // Returns the text that this byte completes; empty inside a character.
  std::string push(std::uint8_t byte);
  // Ends the stream: returns U+FFFD for a truncated character, else an empty string.
  std::string flush();

 private:
  std::string start(std::uint8_t byte);

  std::string pending_;                      // well-formed prefix of a character
  int missing_ = 0;                          // bytes that pending_ lacks
  std::uint8_t lowest_ = 0, highest_ = 0;    // range of the next byte
};

enum class OutputForm { Text, Raw, Ids };

// Converts a stream of ids to text for `write`. Ids above 255 are not bytes: only the Ids form writes them.
class ByteWriter {
 public:
  ByteWriter(OutputForm form, std::function<void(std::string_view)> write) : form_(form), write_(std::move(write)) {}

  void put(std::int64_t id);
  // Ends a sequence; the next put() starts a new one.
  void finish();

 private:
  OutputForm form_;
  std::function<void(std::string_view)> write_;
  Utf8Decoder decoder_;
  bool first_ = true;
};

}  // namespace mblm
