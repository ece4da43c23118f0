// JPEG encoder.
#pragma once

#include "train/data/image.h"

namespace mblm {

// Encodes an image as baseline JPEG with the defaults of libjpeg-turbo: slow integer DCT, standard Huffman tables. RGB streams have an
// Adobe marker and no subsampling; YCbCr streams have a JFIF header and 4:2:0 subsampling. `quality` is 1 to 100. Throws ValueError
// for images that are too large for JPEG (a side above 65500 pixels).
std::vector<std::uint8_t> jpeg_stream(const Image& image, int quality, bool in_rgb);

}  // namespace mblm
