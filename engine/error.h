// Errors of the library. Every message names the operation, the expectation and the actual value
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

class ShapeError : public Error { using Error::Error; };     // shapes that do not match
class DTypeError : public Error { using Error::Error; };     // an element type that an operation does not support
class DeviceError : public Error { using Error::Error; };    // a missing device or kernel, tensors on different devices
class ValueError : public Error { using Error::Error; };     // a value out of range
class GradientError : public Error { using Error::Error; };  // a gradient that is missing or requested twice
class MemoryError : public Error { using Error::Error; };    // out of memory on a device
class FileError : public Error { using Error::Error; };      // a file that is missing, damaged or not writable
class ConfigError : public Error { using Error::Error; };    // an invalid configuration; the message has one line per wrong field

// Concatenates the parts as text.
template <class... Parts>
std::string concat_text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// Throws E with the concatenated parts as its message unless `ok`.
template <class E = Error, class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]] throw E(concat_text(parts...));
}

// Quotes text from a file for a message: truncates it and replaces control characters, so that the message is one short line.
inline std::string shown_text(std::string_view text) {
  constexpr std::size_t longest = 100;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return concat_text('"', line, text.size() > longest ? "...\"" : "\"");
}

}  // namespace mblm
