// Hashes identify content: published values, and every change makes a difference.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "engine/io/hash.h"

namespace mblm::testing {
namespace {

std::string hash_of(const std::string& text) {
  Hash hash;
  hash.add(text);
  return hash.text();
}

}  // namespace

TEST_CASE("a hash has the value that xxhash publishes for it") {
  // `xxhsum -H2` prints these.
  CHECK(hash_of("") == "99aa06d3014798d86001c324468d497f");
  CHECK(hash_of("abc") == "06b05ab6733a618578af5f94892f3950");
  Hash hash;
  hash.add("abc");
  CHECK(hash.short_digest() == 0x06b05ab6733a6185u);
}

TEST_CASE("a hash does not depend on the split into calls, and differs for each flipped bit, each length and each order") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 37);
  std::set<std::string> hashes{hash_of(text)};
  for (std::size_t size = 0; size <= text.size(); size += 101) {
    Hash hash;
    hash.add(text.substr(0, size));
    hash.add(text.substr(size));
    CHECK(hash.text() == *hashes.begin());
  }
  for (std::size_t at = 0; at < text.size(); at += 13)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      hashes.insert(hash_of(changed));
    }
  for (std::size_t size = 0; size < text.size(); ++size) hashes.insert(hash_of(text.substr(0, size)));
  hashes.insert(hash_of(text.substr(500) + text.substr(0, 500)));
  CHECK(hashes.size() == 1 + 77 * 8 + 1000 + 1);
}

TEST_CASE("sized texts keep their boundaries") {
  Hash one, other;
  for (const char* text : {"ab", "c"}) one.add_sized(text);
  for (const char* text : {"a", "bc"}) other.add_sized(text);
  CHECK(one.text() != other.text());
}

}  // namespace mblm::testing
