#include "tests/png_file.h"

#include <algorithm>

namespace mblm::testing {
namespace {

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

std::uint32_t adler32(const std::string& bytes) {
  std::uint32_t a = 1, b = 0;
  for (const char c : bytes) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<std::uint32_t>(data.size())) + type + data + big_endian(crc32(type + data));
}

// A zlib stream of stored (uncompressed) blocks.
std::string stored(const std::string& bytes) {
  constexpr std::size_t most = 65535;
  std::string stream = "\x78\x01";
  for (std::size_t begin = 0; begin == 0 || begin < bytes.size(); begin += most) {
    const std::string block = bytes.substr(begin, most);
    const auto low = [&](std::size_t n) { return std::string{static_cast<char>(n & 255), static_cast<char>(n >> 8 & 255)}; };
    stream += static_cast<char>(begin + block.size() == bytes.size());
    stream += low(block.size()) + low(~block.size()) + block;
  }
  return stream + big_endian(adler32(bytes));
}

}  // namespace

std::string png_file(const PngHeader& header, const std::string& rows) {
  const std::size_t bytes_per_row = std::max<std::size_t>(rows.size() / std::max(header.height, 1u), 1);
  std::string filtered;
  for (std::size_t begin = 0; begin < rows.size(); begin += bytes_per_row) filtered += '\0' + rows.substr(begin, bytes_per_row);
  std::string start = big_endian(header.width) + big_endian(header.height);
  for (const int value : {header.depth, header.color_type, 0, 0, int{header.interlaced}}) start += static_cast<char>(value);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", start) + (header.palette.empty() ? "" : chunk("PLTE", header.palette)) + chunk("IDAT", stored(filtered)) +
         chunk("IEND", "");
}

}  // namespace mblm::testing
