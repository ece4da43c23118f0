// Image resizing.
#pragma once

#include "train/data/image.h"

namespace mblm {

// Lanczos resampling, bit-identical to Pillow: first along rows, rounded to 8 bits, then along columns. An axis that keeps its size is
// not resampled. For an axis of n_in pixels resampled to n_out, with s = n_in / n_out, f = max(s, 1) and c = (x + 0.5) s, pixel x is
// the sum over i, max(int(c - 3f + 0.5), 0) <= i < min(int(c + 3f + 0.5), n_in), of
//   lanczos3((i - c + 0.5) / f), normalized to sum 1 and rounded to 22 fractional bits, times pixel i,
// rounded and clipped to 0..255, where lanczos3(t) = sinc(t) sinc(t / 3) for -3 <= t < 3. Throws ValueError for sizes outside
// 1 to most_pixels.
Image resized(const Image& image, std::int64_t width, std::int64_t height);

}  // namespace mblm
