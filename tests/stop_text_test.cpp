// Stop texts.
#include <doctest/doctest.h>

#include "engine/error.h"
#include "mblm/stop_text.h"

namespace mblm::testing {
namespace {

using Ids = std::vector<std::int64_t>;

struct Outcome {
  std::string text;      // what was passed on; ids above 255 as '#'
  std::size_t read = 0;  // ids until it stopped
  bool stopped = false;
};

Outcome run(std::vector<std::string> texts, const Ids& ids) {
  StopText stop(std::move(texts));
  Outcome outcome;
  const auto pass_on = [&](const Ids& free) {
    for (const std::int64_t id : free) outcome.text += id > 255 ? '#' : static_cast<char>(id);
  };
  for (const std::int64_t id : ids) {
    pass_on(stop.push(id));
    ++outcome.read;
    if (stop.stopped()) break;
  }
  outcome.stopped = stop.stopped();
  pass_on(stop.flush());
  return outcome;
}

Outcome run(std::vector<std::string> texts, const std::string& bytes) {
  Ids ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  return run(std::move(texts), ids);
}

void check(const Outcome& outcome, const std::string& text, std::size_t read, bool stopped) {
  CHECK(outcome.text == text);
  CHECK(outcome.read == read);
  CHECK(outcome.stopped == stopped);
}

}  // namespace

TEST_CASE("stop text: ends before the first stop text that is complete") {
  check(run({}, "abc"), "abc", 3, false);
  check(run({"b"}, "abc"), "a", 2, true);
  check(run({"\n\n"}, "a\nb\n\nc"), "a\nb", 5, true);
  check(run({"END"}, "the EN"), "the EN", 6, false);
  check(run({"aab"}, "aaaab"), "aa", 5, true);       // the beginning repeats inside of the text
  check(run({"abab"}, "abaabab"), "aba", 7, true);
  check(run({"xyz", "y"}, "wxyz"), "wx", 3, true);   // a shorter text is complete first
  check(run({"yz", "xyz"}, "wxyz"), "w", 4, true);   // both at once: the longer one is removed
  check(run({"\xc3\xa9"}, "caf\xc3\xa9!"), "caf", 5, true);
}

TEST_CASE("stop text: ids that are no bytes are passed on and match nothing") {
  check(run({"ab"}, Ids{'a', 256, 'b', 'a', 'b'}), "a#b", 5, true);
  check(run({"a"}, Ids{'a' + 256}), "#", 1, false);
}

TEST_CASE("stop text: only what may begin a stop text is held back") {
  StopText stop({"END"});
  CHECK(stop.push('x') == Ids{'x'});
  CHECK(stop.push('E').empty());
  CHECK(stop.push('E') == Ids{'E'});
  CHECK(stop.push('N').empty());
  CHECK(stop.push('x') == Ids{'E', 'N', 'x'});
  CHECK(stop.flush().empty());
  CHECK_THROWS_AS(StopText({""}), ValueError);
}

}  // namespace mblm::testing
