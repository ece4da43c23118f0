// Kernels that use each function of cuda/tensor_core.h, called from the host. They are compiled for the emulator and, where nvcc exists,
// for a GPU. Matrices are in host memory, by rows.
#pragma once

#include <cstdint>

namespace mblm::testing {

// c += a b: a (16, 16), b (16, 8), c (16, 8); a and b are the bits of bfloat16. The operands are loaded by ldmatrix: a as four matrices, b
// by ldmatrix_x2_trans.
void multiply_16x8x16(const std::uint16_t* a, const std::uint16_t* b, float* c);

// c = a b^T for a (16, 16) and b (8, 16): the rows of b are loaded by ldmatrix_x2 without transposing.
void multiply_transposed(const std::uint16_t* a, const std::uint16_t* b, float* c);

// The registers of all lanes, (32, count), after loading `count` (2 or 4) matrices of 8 x 8 that lie one after the other in `elements`.
void load_fragments(const std::uint16_t* elements, int count, bool transposed, std::uint32_t* registers);

// The transpose of an 8 x 8 matrix by transpose_8x8.
void transpose_matrix(const std::uint16_t* x, std::uint16_t* y);

// Copies `n` floats (a multiple of 128, at most 4096) through shared memory: with groups of asynchronous copies of 16 bytes, two groups
// ahead, or of 4 bytes. Of each copy, only `bytes` are read.
void copy_through_shared(const float* x, float* y, int n, bool wide, int bytes);

}  // namespace mblm::testing
