#include "engine/io/zip_writer.h"

#include <zlib.h>

#include <bit>

namespace mblm {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written without conversion");

constexpr std::uint64_t alignment = 64;
constexpr std::uint32_t in_zip64 = 0xffffffff;     // means that the zip64 field holds the number
constexpr std::uint16_t zip64_field = 0x0001;      // the extra field with the 64-bit numbers
constexpr std::uint16_t padding_field = 0x4246;    // an extra field that readers ignore
constexpr std::uint16_t version = 45;              // of the format: 4.5, the first with zip64
constexpr std::uint16_t utf8_names = 1 << 11;
constexpr std::uint16_t first_day = 1 << 5 | 1;    // 1980-01-01, so that equal tensors give equal files

template <class T>
void append(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// The common fields of a record header and its directory entry, from the version on.
std::string common_fields(std::uint32_t checksum, std::uint32_t size, std::size_t name_bytes, std::size_t extra_bytes) {
  std::string out;
  append(out, version);
  append(out, utf8_names);
  append<std::uint16_t>(out, 0);  // stored
  append<std::uint16_t>(out, 0);  // time
  append(out, first_day);
  append(out, checksum);
  append(out, size);  // compressed
  append(out, size);
  append(out, static_cast<std::uint16_t>(name_bytes));
  append(out, static_cast<std::uint16_t>(extra_bytes));
  return out;
}

// The padding after `used` bytes. A padding field has at least four bytes.
std::string padding_after(std::uint64_t used) {
  if (used % alignment == 0) return {};
  std::uint64_t bytes = alignment - used % alignment;
  if (bytes < 4) bytes += alignment;
  std::string out;
  append(out, padding_field);
  append(out, static_cast<std::uint16_t>(bytes - 4));
  return out + std::string(bytes - 4, '\0');
}

}  // namespace

void ZipWriter::write(const std::string& bytes) {
  file_.write(bytes.data(), bytes.size());
  at_ += bytes.size();
}

void ZipWriter::add(const std::string& name, const void* data, std::size_t bytes) {
  const std::uint32_t checksum = static_cast<std::uint32_t>(::crc32_z(0, static_cast<const Bytef*>(data), bytes));
  const bool large = bytes >= zip64_from_, far = at_ >= zip64_from_;
  const std::uint32_t size = large ? in_zip64 : static_cast<std::uint32_t>(bytes);

  std::string sizes;  // of the zip64 field
  if (large) {
    append<std::uint64_t>(sizes, bytes);
    append<std::uint64_t>(sizes, bytes);
  }
  std::string place = sizes;
  if (far) append<std::uint64_t>(place, at_);
  const auto as_field = [](const std::string& numbers) {
    std::string field;
    if (numbers.empty()) return field;
    append(field, zip64_field);
    append(field, static_cast<std::uint16_t>(numbers.size()));
    return field + numbers;
  };

  std::string entry("PK\1\2");
  append(entry, version);  // made by
  const std::string extra = as_field(place);
  entry += common_fields(checksum, size, name.size(), extra.size());
  append<std::uint16_t>(entry, 0);  // comment
  append<std::uint16_t>(entry, 0);  // disk
  append<std::uint16_t>(entry, 0);  // kind of content
  append<std::uint32_t>(entry, 0);  // attributes
  append(entry, far ? in_zip64 : static_cast<std::uint32_t>(at_));
  directory_ += entry + name + extra;
  ++records_;

  constexpr std::size_t header_bytes = 30;
  const std::string local = as_field(sizes);
  const std::string padding = padding_after(at_ + header_bytes + name.size() + local.size());
  write("PK\3\4" + common_fields(checksum, size, name.size(), local.size() + padding.size()) + name + local + padding);
  file_.write(data, bytes);
  at_ += bytes;
}

void ZipWriter::finish() {
  const std::uint64_t begin = at_, size = directory_.size();
  write(directory_);
  const std::uint64_t end = at_;
  constexpr std::uint64_t many = 0xffff;
  const bool large = begin >= zip64_from_ || size >= zip64_from_ || records_ >= many;
  std::string out;
  if (large) {
    out = "PK\6\6";
    append<std::uint64_t>(out, 44);  // remaining bytes of this record
    append(out, version);
    append(out, version);
    append<std::uint32_t>(out, 0);  // disk
    append<std::uint32_t>(out, 0);
    append(out, records_);
    append(out, records_);
    append(out, size);
    append(out, begin);
    out += "PK\6\7";
    append<std::uint32_t>(out, 0);
    append(out, end);
    append<std::uint32_t>(out, 1);  // disks
  }
  out += "PK\5\6";
  append<std::uint32_t>(out, 0);  // two disk numbers
  append(out, static_cast<std::uint16_t>(large ? many : records_));
  append(out, static_cast<std::uint16_t>(large ? many : records_));
  append(out, large ? in_zip64 : static_cast<std::uint32_t>(size));
  append(out, large ? in_zip64 : static_cast<std::uint32_t>(begin));
  append<std::uint16_t>(out, 0);  // comment
  write(out);
}

}  // namespace mblm
