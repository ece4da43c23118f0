// A page that colours each byte of scored files by its bits: one HTML file that needs no other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/atomic_file.h"

namespace mblm {

// The mean of a sequence of any length in at most 512 equal intervals.
class Profile {
 public:
  void add(double value);
  // Of each interval; the last one may be incomplete.
  std::vector<double> means() const;
  std::int64_t interval() const { return interval_; }  // values per mean

 private:
  std::vector<double> sums_;
  std::int64_t interval_ = 1, count_ = 0;
};

// The number of bytes of the well-formed UTF-8 character at the beginning of `bytes`: 1 to 4, or 0 if no character begins there. With fewer
// than 4 bytes a character may be cut.
std::size_t utf8_character(std::string_view bytes);

// Writes the page as the bytes come; its memory does not grow with them. Text shows as text, other content as hexadecimal numbers with
// offsets: the first 4096 bytes of a file decide.
class ScorePage {
 public:
  // Throws FileError, as AtomicFile, also in the other functions.
  ScorePage(const std::filesystem::path& path, const std::string& model);

  void begin_file(const std::string& name);
  void add(std::uint8_t byte, double bits);
  // `remark`: a further line; may be empty.
  void end_file(const std::string& remark);
  // Replaces the file at the path.
  void commit();

 private:
  void write_ready(bool at_end);
  void write_character(std::string_view bytes, std::span<const double> bits);
  void write_hex_row(std::string_view bytes, std::span<const double> bits);
  void add_bits(std::span<const double> bits);
  void close_row();
  void write(std::string_view text);

  AtomicFile file_;
  std::string buffer_;  // of the page, to be written

  std::string name_;
  bool decided_ = false, is_binary_ = false;
  std::string bytes_;         // that have come and are not on the page
  std::vector<double> bits_;  // of them
  std::string cells_;         // of the open row
  std::string row_bits_;
  std::int64_t row_offset_ = 0, row_bytes_ = 0;
  std::int64_t count_ = 0;    // bytes of the file
  double total_bits_ = 0;
  Profile profile_;
};

}  // namespace mblm
