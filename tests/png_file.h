// Writes PNG files with arbitrary, also invalid, headers without a library.
#pragma once

#include <cstdint>
#include <string>

namespace mblm::testing {

struct PngHeader {
  std::uint32_t width = 1, height = 1;
  int depth = 8;
  int color_type = 2;  // 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha
  bool interlaced = false;
  std::string palette = {};  // RGB values for color type 3
};

// `rows` contains the packed bytes of all rows.
std::string png_file(const PngHeader& header, const std::string& rows);

}  // namespace mblm::testing
