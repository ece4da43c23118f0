// Images of 8-bit red, green and blue.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace mblm {

struct Image {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;  // (height, width, 3)

  Image() = default;
  Image(std::int64_t new_width, std::int64_t new_height)
      : width(new_width), height(new_height), pixels(static_cast<std::size_t>(new_width * new_height * 3)) {}

  const std::uint8_t* row(std::int64_t y) const { return pixels.data() + y * width * 3; }
  std::uint8_t* row(std::int64_t y) { return pixels.data() + y * width * 3; }
};

inline constexpr std::int64_t most_pixels = std::int64_t{1} << 24;  // of an image that is read or made; 48 MiB

// A PNG file with up to 8 bits per channel, with the values that are in it: alpha is dropped, gray is repeated, smaller
// depths are spread over 0..255, gamma and colour profiles are ignored. Throws FileError, naming the file, when it is
// missing, damaged, cut, no PNG, has 16 bits per channel or more than `most_pixels`.
Image read_png(const std::filesystem::path& path);

// Without `columns` columns on the left and on the right, and `rows` rows at the top and at the bottom. Something must be left.
Image cropped(const Image& image, std::int64_t columns, std::int64_t rows);

}  // namespace mblm
