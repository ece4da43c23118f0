// Copies of equally spaced runs of bytes, for the kernels that only move rows.
#pragma once

#include <cstring>

#include "cpu/kernel.h"

namespace mblm {

// Bytes of one tile: those of elementwise_tile in float32.
inline constexpr std::int64_t copy_tile_bytes = 65536;

// Copies `rows` runs of `bytes` bytes; run r starts at r * to_stride and r * from_stride. Long runs are copied in pieces.
inline void copy_rows(void* to, std::int64_t to_stride, const void* from, std::int64_t from_stride, std::int64_t rows, std::int64_t bytes) {
  if (rows == 0 || bytes == 0) return;
  const std::int64_t pieces = tile_count(bytes, copy_tile_bytes);
  parallel_tiles(rows * pieces, std::max<std::int64_t>(1, copy_tile_bytes / bytes), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / pieces, offset = i % pieces * copy_tile_bytes;
      std::memcpy(static_cast<char*>(to) + row * to_stride + offset, static_cast<const char*>(from) + row * from_stride + offset,
                  static_cast<std::size_t>(std::min(copy_tile_bytes, bytes - offset)));
    }
  });
}

// Bytes of `elements` elements of x.
inline std::int64_t bytes_of(const Tensor& x, std::int64_t elements) { return elements * static_cast<std::int64_t>(size_of(x.dtype())); }

}  // namespace mblm
