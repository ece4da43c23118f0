#include "train/data/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr int fraction_bits = 22;  // leaves 10 bits of int32: 8 for a pixel, 2 for the sign and absolute sums of weights above 1
constexpr double half_width = 3;   // of the filter

double sinc(double t) { return t == 0 ? 1 : std::sin(t * std::numbers::pi) / (t * std::numbers::pi); }
double lanczos3(double t) { return t >= -half_width && t < half_width ? sinc(t) * sinc(t / half_width) : 0; }

// An output pixel is computed from pixels [first, first + count) with the fixed-point weights from weights[offset] on.
struct Taps {
  std::int64_t first, count, offset;
};
struct AxisFilter {
  std::vector<Taps> taps;
  std::vector<std::int32_t> weights;
};

AxisFilter make_filter(std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0), support = half_width * stretch;
  AxisFilter filter;
  std::vector<double> weights;
  for (std::int64_t x = 0; x < out; ++x) {
    const double centre = (static_cast<double>(x) + 0.5) * scale;
    const std::int64_t first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
    const std::int64_t end = std::min(static_cast<std::int64_t>(centre + support + 0.5), in);
    weights.clear();
    double sum = 0;
    for (std::int64_t i = first; i < end; ++i) {
      weights.push_back(lanczos3((static_cast<double>(i) - centre + 0.5) * (1 / stretch)));
      sum += weights.back();
    }
    filter.taps.push_back({first, end - first, static_cast<std::int64_t>(filter.weights.size())});
    for (const double weight : weights)
      filter.weights.push_back(static_cast<std::int32_t>(std::round(weight / sum * (1 << fraction_bits))));
  }
  return filter;
}

std::uint8_t to_pixel(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> fraction_bits, 0, 255)); }

constexpr std::int32_t half = 1 << (fraction_bits - 1);

Image with_width(const Image& image, std::int64_t width) {
  const AxisFilter filter = make_filter(image.width, width);
  Image result(width, image.height);
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* to = result.row(y);
    for (const Taps& taps : filter.taps) {
      const std::uint8_t* pixel = image.row(y) + taps.first * 3;
      const std::int32_t* weight = filter.weights.data() + taps.offset;
      std::int32_t red = half, green = half, blue = half;
      for (std::int64_t i = 0; i < taps.count; ++i, pixel += 3) {
        red += pixel[0] * weight[i];
        green += pixel[1] * weight[i];
        blue += pixel[2] * weight[i];
      }
      *to++ = to_pixel(red);
      *to++ = to_pixel(green);
      *to++ = to_pixel(blue);
    }
  }
  return result;
}

Image with_height(const Image& image, std::int64_t height) {
  const AxisFilter filter = make_filter(image.height, height);
  Image result(image.width, height);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(image.width * 3));
  for (std::int64_t y = 0; y < height; ++y) {
    const Taps& taps = filter.taps[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), half);
    for (std::int64_t i = 0; i < taps.count; ++i) {
      const std::uint8_t* from = image.row(taps.first + i);
      const std::int32_t weight = filter.weights[static_cast<std::size_t>(taps.offset + i)];
      for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += from[j] * weight;
    }
    std::transform(sums.begin(), sums.end(), result.row(y), to_pixel);
  }
  return result;
}

}  // namespace

Image resized(const Image& image, std::int64_t width, std::int64_t height) {
  require<ValueError>(width > 0 && height > 0 && width <= most_pixels / height, "resize: expected a size of 1 to ", most_pixels, " pixels, got ", width,
                      " x ", height);
  Image result = image.width == width ? image : with_width(image, width);
  return result.height == height ? result : with_height(result, height);
}

}  // namespace mblm
