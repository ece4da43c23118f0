#include "train/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <system_error>

#include "engine/io/file.h"

namespace mblm {
namespace {

// Fields of the messages Event, Summary, Summary.Value and SessionLog.
constexpr int event_wall_time = 1, event_step = 2, event_file_version = 3, event_summary = 5, event_session_log = 7;
constexpr int summary_value = 1, value_tag = 1, value_simple_value = 2, session_status = 1, session_start = 1;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? 0x82f63b78u : 0u);
    table[byte] = rest;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> crc_table = make_crc_table();

std::uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

template <class Integer>
std::string little_endian(Integer number) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof number; ++i) bytes.push_back(static_cast<char>(number >> (8 * i) & 0xff));
  return bytes;
}

// The wire format of protobuf: a key of field number and type, then the value.
std::string varint(std::uint64_t number) {
  std::string bytes;
  for (; number >= 0x80; number >>= 7) bytes.push_back(static_cast<char>(number | 0x80));
  bytes.push_back(static_cast<char>(number));
  return bytes;
}
std::string key(int field, int type) { return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(type)); }
std::string integer_field(int field, std::int64_t number) { return key(field, 0) + varint(static_cast<std::uint64_t>(number)); }
std::string double_field(int field, double number) { return key(field, 1) + little_endian(std::bit_cast<std::uint64_t>(number)); }
std::string float_field(int field, double number) { return key(field, 5) + little_endian(std::bit_cast<std::uint32_t>(static_cast<float>(number))); }
std::string bytes_field(int field, const std::string& bytes) { return key(field, 2) + varint(bytes.size()) + bytes; }

std::string event(std::int64_t step, const std::string& what) {
  const double seconds = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return tf_record(double_field(event_wall_time, seconds) + integer_field(event_step, step) + what);
}

std::filesystem::path new_file(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_file_error(folder, "cannot create the folder", error.value());
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::array<char, 64> time{};
  std::snprintf(time.data(), time.size(), "%010lld.%06lld", static_cast<long long>(micros / 1'000'000), static_cast<long long>(micros % 1'000'000));
  return folder / concat_text("events.out.tfevents.", time.data(), ".", ::getpid());
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ crc_table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string tf_record(std::string_view bytes) {
  const std::string length = little_endian(static_cast<std::uint64_t>(bytes.size()));
  return concat_text(length, little_endian(masked_crc(length)), bytes, little_endian(masked_crc(bytes)));
}

EventFile::EventFile(const std::filesystem::path& folder, std::int64_t first_step) : path_(new_file(folder)), file_(path_) {
  file_.append(event(0, bytes_field(event_file_version, "brain.Event:2")) +
               event(first_step, bytes_field(event_session_log, integer_field(session_status, session_start))));
}

void EventFile::write(std::int64_t step, const std::vector<EventScalar>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) summary += bytes_field(summary_value, bytes_field(value_tag, tag) + float_field(value_simple_value, value));
  file_.append(event(step, bytes_field(event_summary, summary)));
}

}  // namespace mblm
