// PNG files for tests, written without a library: with any header, right or wrong.
#pragma once

#include <cstdint>
#include <string>

namespace mblm::testing {

struct PngHeader {
  std::uint32_t width = 1, height = 1;
  int depth = 8;
  int color_type = 2;  // 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha
  bool interlaced = false;
  std::string palette = {};  // RGB, of color type 3
};

// `rows` holds the packed bytes of all rows, one after the other.
std::string png_file(const PngHeader& header, const std::string& rows);

}  // namespace mblm::testing
