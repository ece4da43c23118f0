// The instructions of tensor cores: who holds which elements is described at their functions in cuda/tensor_core.h.
#include <bit>

#include "tests/cuda/emulator/block.h"
#include "tests/cuda/emulator/emulator.h"

namespace emulator {
namespace {

constexpr unsigned all_lanes = 0xffffffffu;

struct Factors {
  const std::uint32_t *a, *b;
};

// The 8 columns of a row. As a vector type, so that it is fast in every build.
using Row = double __attribute__((vector_size(64)));

double low(std::uint32_t r) { return std::bit_cast<float>(r << 16); }
double high(std::uint32_t r) { return std::bit_cast<float>(r & 0xffff0000u); }

// Products of bfloat16 are exact in double; the sum of 17 terms is rounded to float once.
void multiply(const void* const* ins, void* const* outs, const Where&) {
  double a[16][16];
  Row b[16];
  for (unsigned lane = 0; lane < warp_lanes; ++lane) {
    const Factors& in = *static_cast<const Factors*>(ins[lane]);
    const unsigned group = lane / 4, t = lane % 4;
    for (unsigned r = 0; r < 4; ++r) {
      double* at = &a[group + 8 * (r % 2)][2 * t + 8 * (r / 2)];
      at[0] = low(in.a[r]);
      at[1] = high(in.a[r]);
    }
    for (unsigned r = 0; r < 2; ++r) {
      b[2 * t + 8 * r][group] = low(in.b[r]);
      b[2 * t + 8 * r + 1][group] = high(in.b[r]);
    }
  }
  for (unsigned row = 0; row < 16; ++row) {
    Row sums = {};
    for (unsigned k = 0; k < 16; ++k) sums += a[row][k] * b[k];
    for (unsigned t = 0; t < 4; ++t) {
      float* c = static_cast<float*>(outs[4 * (row % 8) + t]) + 2 * (row / 8);
      for (unsigned i = 0; i < 2; ++i) c[i] = static_cast<float>(c[i] + sums[2 * t + i]);
    }
  }
}

template <unsigned count, bool transposed>
void distribute(const void* const* rows, void* const* outs, const Where&) {
  for (unsigned lane = 0; lane < warp_lanes; ++lane) {
    const unsigned group = lane / 4, t = lane % 4;
    for (unsigned m = 0; m < count; ++m) {
      const auto element = [&](unsigned row, unsigned column) -> std::uint32_t {
        return static_cast<const std::uint16_t*>(rows[8 * m + row])[column];
      };
      static_cast<std::uint32_t*>(outs[lane])[m] =
          transposed ? element(2 * t, group) | element(2 * t + 1, group) << 16 : element(group, 2 * t) | element(group, 2 * t + 1) << 16;
    }
  }
}

void transpose(const void* const* ins, void* const* outs, const Where&) {
  const auto element = [&](unsigned row, unsigned column) {
    return *static_cast<const std::uint32_t*>(ins[4 * row + column / 2]) >> 16 * (column % 2) & 0xffffu;
  };
  for (unsigned lane = 0; lane < warp_lanes; ++lane) {
    const unsigned group = lane / 4, t = lane % 4;
    *static_cast<std::uint32_t*>(outs[lane]) = element(2 * t, group) | element(2 * t + 1, group) << 16;
  }
}

}  // namespace

void mma_16x8x16(float* c, const std::uint32_t* a, const std::uint32_t* b, const Where& where) {
  static constexpr char tag = 0;
  const Factors in{a, b};
  meet(&tag, "mma.sync", all_lanes, &in, c, multiply, false, where);
}

void load_matrices(std::uint32_t* r, const void* row, unsigned count, bool transposed, const Where& where) {
  static constexpr char tags[2][2] = {};
  if (current->lane < 8 * count) {
    check_aligned(row, 16, where);
    if (!is_shared(row, 16)) fail("ldmatrix: the row is not in shared memory", where);
    note_read(row, 16, where);
  }
  const Compute compute = count == 4   ? transposed ? distribute<4, true> : distribute<4, false>
                            : transposed ? distribute<2, true>
                                       : distribute<2, false>;
  meet(&tags[count == 4][transposed], "ldmatrix", all_lanes, row, r, compute, false, where);
}

void transpose_8x8(std::uint32_t* y, std::uint32_t x, const Where& where) {
  static constexpr char tag = 0;
  meet(&tag, "movmatrix", all_lanes, &x, y, transpose, false, where);
}

}  // namespace emulator
