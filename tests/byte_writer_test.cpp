// Output of generated ids as text, bytes and numbers.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "program/byte_writer.h"

namespace mblm {
namespace {

std::string decoded(const std::string& bytes) {
  Utf8Decoder decoder;
  std::string text;
  for (const char c : bytes) text += decoder.push(static_cast<std::uint8_t>(c));
  return text + decoder.flush();
}

std::string written(OutputForm form, const std::vector<std::int64_t>& ids) {
  std::string out;
  ByteWriter writer(form, [&](std::string_view text) { out += text; });
  for (const std::int64_t id : ids) writer.put(id);
  writer.finish();
  return out;
}

const std::string mark = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("well-formed UTF-8 passes unchanged") {
  for (const std::string text : {"plain\n\t text", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8C\x8D", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF", "\xE0\xA0\x80", "\xF0\x90\x80\x80"})
    CHECK(decoded(text) == text);
}

TEST_CASE("a character is written after its last byte") {
  Utf8Decoder decoder;
  CHECK(decoder.push(0xE2).empty());
  CHECK(decoder.push(0x82).empty());
  CHECK(decoder.push(0xAC) == "\xE2\x82\xAC");
  CHECK(decoder.push('a') == "a");
  CHECK(decoder.flush().empty());
}

TEST_CASE("each maximal subpart of a malformed sequence becomes one U+FFFD") {
  CHECK(decoded("\x80") == mark);
  CHECK(decoded("a\xFFz") == "a" + mark + "z");
  CHECK(decoded("\xE2\x82z") == mark + "z");               // cut by an ASCII byte
  CHECK(decoded("\xE2\xC3\xA9") == mark + "\xC3\xA9");     // cut by another character
  CHECK(decoded("\xC0\xAF") == mark + mark);               // overlong
  CHECK(decoded("\xE0\x80\xAF") == mark + mark + mark);    // overlong
  CHECK(decoded("\xED\xA0\x80") == mark + mark + mark);    // a surrogate
  CHECK(decoded("\xF4\x90\x80\x80") == mark + mark + mark + mark);  // beyond U+10FFFF
  CHECK(decoded("\xF5\x80") == mark + mark);
  CHECK(decoded("\xF0\x9F\x8C\xE2\x82\xAC") == mark + "\xE2\x82\xAC");
}

TEST_CASE("a character cut by the end of the stream is flushed as U+FFFD") {
  CHECK(decoded("ab\xE2\x82") == "ab" + mark);
  Utf8Decoder decoder;
  CHECK(decoder.push(0xF0).empty());
  CHECK(decoder.flush() == mark);
  CHECK(decoder.push(0xA9) == mark);  // flush() leaves no state
}

TEST_CASE("output forms, with ids that are not bytes") {
  const std::vector<std::int64_t> ids{72, 256, 0xC3, 0xA9, 300, 0xC3};
  CHECK(written(OutputForm::Raw, ids) == "H\xC3\xA9\xC3");
  CHECK(written(OutputForm::Text, ids) == "H\xC3\xA9" + mark + "\n");
  CHECK(written(OutputForm::Ids, ids) == "72 256 195 169 300 195\n");
  CHECK(written(OutputForm::Raw, {0, 10}) == std::string("\0\n", 2));
}

TEST_CASE("several sequences through one writer") {
  std::string out;
  ByteWriter writer(OutputForm::Ids, [&](std::string_view text) { out += text; });
  for (int sequence = 0; sequence < 2; ++sequence) {
    writer.put(1);
    writer.put(2);
    writer.finish();
  }
  CHECK(out == "1 2\n1 2\n");
}

}  // namespace mblm
