// JPEG streams.
#pragma once

#include "train/data/image.h"

namespace mblm {

// Baseline JPEG as libjpeg-turbo writes it by default: slow integer DCT, standard Huffman tables. In RGB with an Adobe marker
// and all channels in full size, or in YCbCr with a JFIF header and 4:2:0 subsampling. `quality` is 1 to 100. Throws
// ValueError for an image that JPEG cannot hold (a side above 65500 pixels).
std::vector<std::uint8_t> jpeg_stream(const Image& image, int quality, bool in_rgb);

}  // namespace mblm
