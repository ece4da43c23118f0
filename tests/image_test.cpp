// Images: reading PNG files, cropping, JPEG streams, and resampling compared with the formula in plain loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "engine/error.h"
#include "tests/png_file.h"
#include "tests/temporary_folder.h"
#include "train/data/image.h"
#include "train/data/jpeg.h"
#include "train/data/resize.h"

namespace mblm::testing {
namespace {

std::vector<int> pixels_of(const PngHeader& header, const std::string& rows) {
  const TemporaryFolder folder;
  const Image image = read_png(folder.write("x.png", png_file(header, rows)));
  CHECK(image.width == header.width);
  CHECK(image.height == header.height);
  return {image.pixels.begin(), image.pixels.end()};
}

std::string error_of(const std::string& content) {
  const TemporaryFolder folder;
  const std::string path = folder.write("x.png", content).string(), message = message_of<FileError>([&] { read_png(path); });
  CHECK(message.starts_with(path + ": "));
  return message.substr(std::min(message.size(), path.size() + 2));
}

Image random_image(std::int64_t width, std::int64_t height) {
  std::mt19937 random(static_cast<unsigned>(width * 1000 + height));
  Image image(width, height);
  for (std::uint8_t& value : image.pixels) value = random() % 3 == 0 ? 255 : static_cast<std::uint8_t>(random() % 256);
  return image;
}

double lanczos3(double t) {
  const auto sinc = [](double x) { return x == 0 ? 1 : std::sin(x * std::numbers::pi) / (x * std::numbers::pi); };
  return std::abs(t) < 3 ? sinc(t) * sinc(t / 3) : 0;
}

// Resamples one axis in floating point, then rounds and clips.
std::vector<double> resampled(const std::vector<double>& in, std::int64_t out) {
  const double scale = static_cast<double>(in.size()) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  std::vector<double> result;
  for (std::int64_t x = 0; x < out; ++x) {
    double sum = 0, weights = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double weight = lanczos3((static_cast<double>(i) + 0.5 - (static_cast<double>(x) + 0.5) * scale) / stretch);
      sum += weight * in[i];
      weights += weight;
    }
    result.push_back(std::clamp(std::round(sum / weights), 0.0, 255.0));
  }
  return result;
}

std::vector<double> oracle(const Image& image, std::int64_t width, std::int64_t height) {
  std::vector<double> wide(static_cast<std::size_t>(width * image.height * 3)), result(static_cast<std::size_t>(width * height * 3));
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t c = 0; c < 3; ++c) {
      std::vector<double> line;
      for (std::int64_t x = 0; x < image.width; ++x) line.push_back(image.row(y)[x * 3 + c]);
      line = resampled(line, width);
      for (std::int64_t x = 0; x < width; ++x) wide[static_cast<std::size_t>((y * width + x) * 3 + c)] = line[static_cast<std::size_t>(x)];
    }
  }
  for (std::int64_t j = 0; j < width * 3; ++j) {
    std::vector<double> line;
    for (std::int64_t y = 0; y < image.height; ++y) line.push_back(wide[static_cast<std::size_t>(y * width * 3 + j)]);
    line = resampled(line, height);
    for (std::int64_t y = 0; y < height; ++y) result[static_cast<std::size_t>(y * width * 3 + j)] = line[static_cast<std::size_t>(y)];
  }
  return result;
}

}  // namespace

TEST_CASE("PNG images of all kinds with up to 8 bits are converted to RGB") {
  const std::string rgb = "\x01\x02\x03\x04\x05\x06", rgba = "\x01\x02\x03\x10\x04\x05\x06\xff";
  const std::vector<int> expected = {1, 2, 3, 4, 5, 6};
  CHECK(pixels_of({.width = 2}, rgb) == expected);
  CHECK(pixels_of({.height = 2}, rgb) == expected);
  CHECK(pixels_of({.width = 2, .color_type = 6}, rgba) == expected);
  CHECK(pixels_of({.width = 2, .color_type = 3, .palette = "\x04\x05\x06\x01\x02\x03"}, std::string("\x01\0", 2)) == expected);
  CHECK(pixels_of({.width = 2, .depth = 1, .color_type = 3, .palette = "\x04\x05\x06\x01\x02\x03"}, "\x80") == expected);
  CHECK(pixels_of({.width = 2, .color_type = 0}, "\x07\x09") == std::vector<int>{7, 7, 7, 9, 9, 9});
  CHECK(pixels_of({.width = 2, .color_type = 4}, "\x07\x01\x09\x01") == std::vector<int>{7, 7, 7, 9, 9, 9});
  CHECK(pixels_of({.width = 2, .depth = 1, .color_type = 0}, "\x40") == std::vector<int>{0, 0, 0, 255, 255, 255});
  CHECK(pixels_of({.width = 2, .depth = 2, .color_type = 0}, "\x60") == std::vector<int>{85, 85, 85, 170, 170, 170});
  CHECK(pixels_of({.width = 2, .depth = 4, .color_type = 0}, "\x1f") == std::vector<int>{17, 17, 17, 255, 255, 255});
  CHECK(pixels_of({.interlaced = true}, "\x01\x02\x03") == std::vector<int>{1, 2, 3});
}

TEST_CASE("invalid image files are reported") {
  const std::string good = png_file({.width = 100, .height = 100}, std::string(30000, 'x'));
  CHECK(error_of("") == "expected a PNG image, found another file format");
  CHECK(error_of("\xff\xd8\xff\xe0 a JPEG image") == "expected a PNG image, found another file format");
  CHECK(error_of(png_file({.depth = 16}, std::string(6, 'x'))) == "expected an image with up to 8 bits per channel, found 16");
  CHECK(error_of(png_file({.width = 20000, .height = 20000}, "")) == "expected an image of at most 16777216 pixels, found 20000 x 20000");
  CHECK(error_of(png_file({.width = 4097, .height = 4096}, "")) == "expected an image of at most 16777216 pixels, found 4097 x 4096");
  for (const std::size_t size : {8, 20, 33, 50, 15000, 30000}) {
    CAPTURE(size);
    CHECK(error_of(good.substr(0, size)).starts_with("damaged PNG image: "));
  }
  std::string flipped = good;
  flipped[20000] ^= 1;
  CHECK(error_of(flipped).starts_with("damaged PNG image: "));
  const TemporaryFolder folder;
  const std::string missing = (folder / "no.png").string();
  CHECK(message_of<FileError>([&] { read_png(missing); }) == missing + ": cannot be read: No such file or directory");
  CHECK(message_of<FileError>([&] { read_png(folder.path()); }) == folder.path().string() + ": cannot be read: Is a directory");
}

TEST_CASE("cropping removes the same on both sides") {
  const Image image = random_image(7, 5), inner = cropped(image, 2, 1);
  REQUIRE(inner.width == 3);
  REQUIRE(inner.height == 3);
  for (std::int64_t y = 0; y < 3; ++y)
    for (std::int64_t j = 0; j < 9; ++j) CHECK(inner.row(y)[j] == image.row(y + 1)[j + 6]);
  CHECK(cropped(image, 0, 0).pixels == image.pixels);
  CHECK_THROWS_AS(cropped(random_image(4, 4), 2, 0), ValueError);
  CHECK_THROWS_AS(cropped(random_image(4, 4), 0, 2), ValueError);
}

TEST_CASE("resampling equals the rounded formula") {
  const std::int64_t sizes[][4] = {{48, 32, 5, 4}, {31, 33, 32, 31}, {1, 1, 7, 3}, {7, 3, 1, 1}, {20, 10, 20, 4}, {20, 10, 9, 10}, {5, 4, 48, 32}, {480, 3, 52, 2}};
  for (const auto& [width, height, new_width, new_height] : sizes) {
    CAPTURE(width);
    CAPTURE(new_width);
    const Image image = random_image(width, height), result = resized(image, new_width, new_height);
    const std::vector<double> expected = oracle(image, new_width, new_height);
    REQUIRE(result.pixels.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(result.pixels[i] == expected[i]);
  }
  const Image image = random_image(9, 8);
  CHECK(resized(image, 9, 8).pixels == image.pixels);
  CHECK_THROWS_AS(resized(image, 0, 8), ValueError);
  CHECK_THROWS_AS(resized(image, 20000, 20000), ValueError);
}

TEST_CASE("a JPEG stream describes its content") {
  const Image image = random_image(16, 9);
  const std::vector<std::uint8_t> rgb = jpeg_stream(image, 70, true), ycc = jpeg_stream(image, 70, false);
  const auto has = [](const std::vector<std::uint8_t>& stream, const std::string& text) {
    return std::search(stream.begin(), stream.end(), text.begin(), text.end()) != stream.end();
  };
  CHECK(has(rgb, "Adobe"));
  CHECK_FALSE(has(rgb, "JFIF"));
  CHECK(has(ycc, "JFIF"));
  CHECK_FALSE(has(ycc, "Adobe"));
  CHECK(jpeg_stream(image, 20, true).size() < rgb.size());
  CHECK(message_of<ValueError>([] { jpeg_stream(Image(70000, 1), 50, true); }).starts_with("jpeg: image of 70000 x 1: "));
}

}  // namespace mblm::testing
