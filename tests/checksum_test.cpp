// Checksums detect changes.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "engine/io/checksum.h"

namespace mblm::testing {
namespace {

std::string sum_of(const std::string& text) {
  Checksum sum;
  sum.add(text);
  return sum.text();
}

}  // namespace

TEST_CASE("a checksum differs for each flipped bit, each length and each order") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 37);
  std::set<std::string> sums{sum_of(text)};
  CHECK(sum_of(text).size() == 16);
  CHECK(sum_of(text) == *sums.begin());
  for (char& byte : text)
    for (int bit = 0; bit < 8; ++bit) {
      byte = static_cast<char>(byte ^ 1 << bit);
      sums.insert(sum_of(text));
      byte = static_cast<char>(byte ^ 1 << bit);
    }
  CHECK(sums.size() == 801);
  for (std::size_t size = 0; size < text.size(); ++size) sums.insert(sum_of(text.substr(0, size)));
  CHECK(sums.size() == 901);
  sums.insert(sum_of(std::string(64, '\0')));  // trailing zeros differ from padding
  sums.insert(sum_of(std::string(65, '\0')));
  sums.insert(sum_of(text.substr(32, 32) + text.substr(0, 32)));
  CHECK(sums.size() == 904);
  Checksum two, one;
  two.add("ab");
  two.add("c");
  one.add("abc");
  CHECK(two.text() != one.text());
}

}  // namespace mblm::testing
