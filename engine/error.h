// Errors of the library. Every message reads: operation, what was expected, what was found
// (`matmul: inner sizes differ, (3, 4) x (5, 6)`). The library throws; only the program prints and exits.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mblm {

// Base of all errors that the library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ShapeError : public Error { using Error::Error; };     // shapes that do not fit together
class DTypeError : public Error { using Error::Error; };     // an element type that an operation does not take
class DeviceError : public Error { using Error::Error; };    // a missing device or kernel, tensors on different devices
class ValueError : public Error { using Error::Error; };     // a value out of its range
class GradientError : public Error { using Error::Error; };  // a gradient that is missing or asked for twice
class MemoryError : public Error { using Error::Error; };    // memory that a device does not have
class FileError : public Error { using Error::Error; };      // a file that is missing, damaged or not writable
class ConfigError : public Error { using Error::Error; };    // a configuration that cannot be used

// The parts, streamed one after the other.
template <class... Parts>
std::string concat_text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// Throws E with the streamed parts as its message unless `ok`.
template <class E = Error, class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]] throw E(concat_text(parts...));
}

// Text of a file that may hold anything, in quotes, as part of a message: short and on one line.
inline std::string shown_text(std::string_view text) {
  constexpr std::size_t longest = 100;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return concat_text('"', line, text.size() > longest ? "...\"" : "\"");
}

}  // namespace mblm
