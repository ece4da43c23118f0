// The functions of cuda/tensor_core.h against plain loops: which lane holds which element. On a GPU this settles the order of operands in
// PTX; on the emulator, that its emulation is the same.
#include <doctest/doctest.h>

#include <bit>
#include <random>
#include <vector>

#include "tests/cuda/tensor_core_kernels.h"

namespace mblm::testing {
namespace {

using Bits = std::uint16_t;

float to_float(Bits b) { return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16); }

// Small multiples of 1/8, so that all sums are exact.
std::vector<Bits> random_elements(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Bits> all(n);
  for (Bits& b : all) b = static_cast<Bits>(std::bit_cast<std::uint32_t>((static_cast<float>(random() % 63) - 31) / 8) >> 16);
  return all;
}

// 0, 1, 2, ...: each element identifies itself.
std::vector<Bits> numbered(std::size_t n) {
  std::vector<Bits> all(n);
  for (std::size_t i = 0; i < n; ++i) all[i] = static_cast<Bits>(i);
  return all;
}

}  // namespace

TEST_CASE("mma with operands loaded by ldmatrix is the product of the matrices") {
  for (unsigned seed = 0; seed < 4; ++seed) {
    const std::vector<Bits> a = random_elements(256, 3 * seed), b = random_elements(128, 3 * seed + 1), start = random_elements(128, 3 * seed + 2);
    for (const bool transposed : {false, true}) {
      CAPTURE(transposed);
      std::vector<float> c(128), expected(128);
      for (std::size_t i = 0; i < 128; ++i) {
        c[i] = expected[i] = to_float(start[i]);
        for (std::size_t k = 0; k < 16; ++k) expected[i] += to_float(a[i / 8 * 16 + k]) * to_float(transposed ? b[i % 8 * 16 + k] : b[k * 8 + i % 8]);
      }
      transposed ? multiply_transposed(a.data(), b.data(), c.data()) : multiply_16x8x16(a.data(), b.data(), c.data());
      CHECK(c == expected);
    }
  }
}

TEST_CASE("ldmatrix gives each lane two neighbouring elements per matrix") {
  for (const int count : {2, 4})
    for (const bool transposed : {false, true}) {
      CAPTURE(count);
      CAPTURE(transposed);
      const std::vector<Bits> elements = numbered(256);
      std::vector<std::uint32_t> registers(static_cast<std::size_t>(32 * count)), expected;
      load_fragments(elements.data(), count, transposed, registers.data());
      for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned m = 0; m < static_cast<unsigned>(count); ++m) {
          const unsigned group = lane / 4, t = lane % 4;
          const unsigned first = 64 * m + (transposed ? 2 * t * 8 + group : group * 8 + 2 * t), second = first + (transposed ? 8 : 1);
          expected.push_back(first | second << 16);
        }
      CHECK(registers == expected);
    }
}

TEST_CASE("transpose_8x8 transposes a matrix in registers") {
  const std::vector<Bits> x = numbered(64);
  std::vector<Bits> y(64), expected(64);
  transpose_matrix(x.data(), y.data());
  for (std::size_t i = 0; i < 64; ++i) expected[i] = x[i % 8 * 8 + i / 8];
  CHECK(y == expected);
}

TEST_CASE("asynchronous copies move whole and partial packs") {
  for (const int n : {128, 256, 1024})
    for (const bool wide : {false, true})
      for (const int bytes : {0, 4, 8, 12, 16}) {
        if (!wide && bytes > 4) continue;
        CAPTURE(n);
        CAPTURE(wide);
        CAPTURE(bytes);
        std::vector<float> x(static_cast<std::size_t>(n)), y(x.size(), -1), expected(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
        for (std::size_t i = 0; i < x.size(); ++i) {
          const std::size_t from = i / 128 * 128 + 127 - i % 128;  // each piece is reversed
          const bool is_read = wide ? from % 4 < static_cast<std::size_t>(bytes) / 4 : bytes == 4;
          expected[i] = is_read ? x[from] : 0;
        }
        copy_through_shared(x.data(), y.data(), n, wide, bytes);
        CHECK(y == expected);
      }
}

}  // namespace mblm::testing
