// RGB images with 8 bits per channel.
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

inline constexpr std::int64_t most_pixels = std::int64_t{1} << 24;  // limit for images; 48 MiB

// Reads a PNG file with up to 8 bits per channel. Drops alpha, converts gray to RGB, scales smaller depths to 0..255, and ignores
// gamma and color profiles. Throws FileError, naming the file, if it is missing, damaged, truncated, not PNG, has 16 bits per channel
// or more than `most_pixels`.
Image read_png(const std::filesystem::path& path);

// Removes `columns` columns on the left and on the right, and `rows` rows at the top and at the bottom. Throws ValueError if nothing
// remains.
Image cropped(const Image& image, std::int64_t columns, std::int64_t rows);

}  // namespace mblm
