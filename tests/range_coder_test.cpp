// The range coder returns what was coded, in as few bytes as the frequencies allow, and the frequencies follow their formula.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "engine/error.h"
#include "mblm/byte_frequencies.h"
#include "tests/error_text.h"

namespace mblm::testing {
namespace {

using Table = std::vector<std::uint32_t>;

struct Message {
  std::vector<Table> tables;
  std::vector<std::size_t> symbols;
  void add(Table table, std::size_t symbol) {
    tables.push_back(std::move(table));
    symbols.push_back(symbol);
  }
  double bits() const {
    double sum = 0;
    for (std::size_t i = 0; i < symbols.size(); ++i) sum -= std::log2(static_cast<double>(tables[i][symbols[i]]) / static_cast<double>(total_of(tables[i])));
    return sum;
  }
};

std::vector<std::uint8_t> encoded(const Message& message) {
  RangeEncoder encoder;
  std::vector<std::uint8_t> code;
  for (std::size_t i = 0; i < message.symbols.size(); ++i) {
    encoder.encode(message.tables[i], message.symbols[i]);
    code.insert(code.end(), encoder.bytes().begin(), encoder.bytes().end());  // takes the bytes away as they come
    encoder.bytes().clear();
  }
  encoder.finish();
  code.insert(code.end(), encoder.bytes().begin(), encoder.bytes().end());
  return code;
}

std::vector<std::size_t> decoded(const std::vector<std::uint8_t>& code, const std::vector<Table>& tables) {
  std::size_t next = 0;
  RangeDecoder decoder([&] { return next < code.size() ? code[next++] : std::uint8_t{0}; });
  std::vector<std::size_t> symbols;
  for (const Table& table : tables) symbols.push_back(decoder.decode(table));
  return symbols;
}

// Codes and decodes; the code has at most 2 bytes more than its information.
void check_message(const Message& message) {
  const std::vector<std::uint8_t> code = encoded(message);
  CHECK(decoded(code, message.tables) == message.symbols);
  CHECK(static_cast<double>(code.size()) <= message.bits() / 8 * (1 + 1e-5) + 2);
}

std::vector<float> some_logits(std::size_t count, float scale, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = scale * (static_cast<float>(random() % 20001) / 10000.0f - 1);
  return logits;
}

}  // namespace

TEST_CASE("range coder: messages of all kinds of frequencies return, in the bytes of their information") {
  std::mt19937_64 random(3);
  for (const std::size_t length : {0, 1, 2, 3, 10, 1000, 20000}) {
    for (const std::uint32_t largest : {1u, 2u, 300u, 65536u, 0x7fffffffu, 0xffffffffu}) {
      Message message;
      for (std::size_t i = 0; i < length; ++i) {
        Table table(1 + random() % 256);
        for (std::uint32_t& f : table) f = static_cast<std::uint32_t>(1 + random() % largest);
        message.add(table, random() % table.size());
      }
      CAPTURE(length);
      CAPTURE(largest);
      check_message(message);
    }
  }
}

TEST_CASE("range coder: the first, the last, certain and very unlikely symbols") {
  const Table wide{0xffffffffu, 1, 0xffffffffu}, certain{7}, gaps{0, 5, 0, 9, 0};
  for (const std::size_t symbol : {0, 1, 2}) {
    Message message;
    for (int i = 0; i < 500; ++i) message.add(wide, symbol);
    check_message(message);
  }
  Message sure;
  for (int i = 0; i < 100000; ++i) sure.add(certain, 0);
  CHECK(encoded(sure).size() <= 1);
  check_message(sure);
  Message some;
  for (std::size_t i = 0; i < 999; ++i) some.add(gaps, i % 3 == 0 ? 1 : 3);
  check_message(some);
}

TEST_CASE("range coder: carries run through long sequences of 255") {
  // Of 256 equal symbols, symbol 1 begins just below 2^56: its byte waits as 0, those of the symbols 0 after it as 255, and symbol 255 carries.
  const Table equal(256, 1);
  for (std::size_t run = 1; run <= 6; ++run) {
    CAPTURE(run);
    Message message;
    message.add(equal, 1);
    for (std::size_t i = 0; i < run; ++i) message.add(equal, 0);
    message.add(equal, 255);
    const std::vector<std::uint8_t> code = encoded(message);
    REQUIRE(code.size() > run);
    CHECK(code[0] == 1);
    CHECK(std::count(code.begin() + 1, code.begin() + 1 + static_cast<std::ptrdiff_t>(run), 0) == static_cast<std::ptrdiff_t>(run));
    check_message(message);
  }
  // Random intervals near the boundary.
  std::mt19937_64 random(11);
  for (int round = 0; round < 400; ++round) {
    Message message;
    const std::size_t before = random() % 5, run = 1 + random() % 40;
    for (std::size_t i = 0; i < before; ++i) message.add(Table(256, 1), random() % 256);
    message.add({1, 1, 1}, random() % 3);
    for (std::size_t i = 0; i < run; ++i) message.add(Table(256, 0x1000001), 255);
    for (int i = 0; i < 6; ++i) message.add({1, 1, 1}, 2);
    check_message(message);
  }
}

TEST_CASE("range coder: a code that no encoder wrote gives symbols with a frequency") {
  std::mt19937_64 random(5);
  const std::vector<Table> tables(300, Table{0, 3, 0, 0xffffffffu, 1, 0});
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint8_t> code(random() % 50);
    for (std::uint8_t& byte : code) byte = round % 2 == 0 ? 0xff : static_cast<std::uint8_t>(random());
    for (const std::size_t symbol : decoded(code, tables)) CHECK((symbol == 1 || symbol == 3 || symbol == 4));
  }
}

TEST_CASE("range coder: impossible symbols and totals are refused") {
  RangeEncoder encoder;
  const Table gaps{1, 0}, none{0, 0}, empty, huge(300, 0xffffffffu);
  CHECK(error_text<ValueError>([&] { encoder.encode(gaps, 1); }) == "range coder: symbol 1 has no frequency");
  CHECK_THROWS_AS(encoder.encode(gaps, 2), ValueError);
  CHECK_THROWS_AS(encoder.encode(none, 0), ValueError);
  CHECK_THROWS_AS(encoder.encode(empty, 0), ValueError);
  CHECK_THROWS_AS(encoder.encode(huge, 0), ValueError);
  RangeDecoder decoder([] { return std::uint8_t{0}; });
  CHECK_THROWS_AS(decoder.decode(none), ValueError);
  CHECK_THROWS_AS(decoder.decode(huge), ValueError);
}

TEST_CASE("byte frequencies: the documented rounding, at least 1 for every byte, none for ids above 255") {
  ByteFrequencies frequencies;
  for (const std::size_t vocabulary : {1, 40, 255, 256, 257, 1000}) {
    for (const float scale : {0.0f, 1.0f, 10.0f, 100.0f}) {
      const std::vector<float> logits = some_logits(vocabulary, scale, vocabulary);
      const std::size_t bytes = std::min<std::size_t>(vocabulary, 256);
      const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(bytes)));
      const Frequencies found = frequencies.of(logits);
      REQUIRE(found.size() == bytes);
      for (std::size_t i = 0; i < bytes; ++i) {
        const double exact = (std::ldexp(1.0, 31) - 2) * std::exp(static_cast<double>(logits[i]) - largest);
        CHECK(found[i] >= 1);
        CHECK(std::abs(static_cast<double>(found[i]) - 1 - std::floor(exact)) <= (std::abs(exact - std::round(exact)) < 0.01 ? 1 : 0));
      }
    }
  }
}

TEST_CASE("byte frequencies: the largest and the smallest logits; not a number is refused") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  ByteFrequencies frequencies;
  const std::vector<float> far{0, -22, -1e30f, -infinity, 0};
  const Frequencies found = frequencies.of(far);
  CHECK(found[0] == 0x7fffffff);
  CHECK(found[4] == 0x7fffffff);
  CHECK(found[1] == 1);
  CHECK(found[2] == 1);
  CHECK(found[3] == 1);
  std::vector<float> high(300, 1);
  high[299] = 1e9f;  // an id above 255 does not count
  CHECK(frequencies.of(high)[0] == 0x7fffffff);
  CHECK_THROWS_AS(frequencies.of(std::vector<float>{0, std::nanf("")}), ValueError);
  CHECK_THROWS_AS(frequencies.of(std::vector<float>{0, infinity}), ValueError);
  CHECK_THROWS_AS(frequencies.of(std::vector<float>{-infinity}), ValueError);
  CHECK_THROWS_AS(frequencies.of(std::vector<float>{}), ValueError);
}

}  // namespace mblm::testing
