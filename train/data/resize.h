// Images in another size.
#pragma once

#include "train/data/image.h"

namespace mblm {

// Lanczos resampling, bit for bit as Pillow does it: first all rows, rounded to 8 bits, then all columns; an axis whose size
// stays is left alone. On an axis of n_in pixels that get n_out, with s = n_in / n_out and f = max(s, 1), pixel x is the sum
// over i, from max(int(c - 3f + 0.5), 0) to below min(int(c + 3f + 0.5), n_in), c = (x + 0.5) s, of
//   lanczos3((i - c + 0.5) / f), normalised to sum 1 and rounded to 22 fractional bits, times pixel i,
// rounded and clipped to 0..255, where lanczos3(t) = sinc(t) sinc(t / 3) for -3 <= t < 3.
Image resized(const Image& image, std::int64_t width, std::int64_t height);

}  // namespace mblm
