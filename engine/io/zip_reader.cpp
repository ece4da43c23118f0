#include "engine/io/zip_reader.h"

#include <cstdint>
#include <string_view>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::string_view end_mark = "PK\5\6", zip64_end_mark = "PK\6\6", zip64_locator_mark = "PK\6\7", entry_mark = "PK\1\2", header_mark = "PK\3\4";
constexpr std::uint64_t end_bytes = 22, zip64_end_bytes = 56, zip64_locator_bytes = 20, entry_bytes = 46, header_bytes = 30;
constexpr std::uint64_t longest_comment = 0xffff, in_zip64 = 0xffffffff;  // in_zip64 means that the zip64 field holds the number
constexpr std::uint64_t zip64_field = 1;
constexpr std::uint64_t encrypted = 1;

// The list of all records, at the end of the file.
struct Directory {
  std::uint64_t records, begin, end;
};

// The entry of a record in the directory.
struct Entry {
  std::string_view name;
  std::uint64_t flags, method, compressed, bytes, header;
};

class Lister {
 public:
  Lister(const std::string& origin, std::span<const std::byte> file)
      : origin_(origin), file_(reinterpret_cast<const char*>(file.data()), file.size()) {}

  std::map<std::string, ZipRecord> run() const {
    const Directory directory = find_directory();
    std::map<std::string, ZipRecord> records;
    std::uint64_t at = directory.begin;
    for (std::uint64_t i = 0; i < directory.records; ++i) {
      const Entry entry = read_entry(at, directory.end);
      check(records.emplace(entry.name, record_of(entry, directory.begin)).second, "unique record names in the zip file",
            "duplicate name ", shown_text(entry.name));
    }
    check(at == directory.end, "no bytes after the entries of the zip directory", directory.end - at, " bytes");
    return records;
  }

 private:
  template <class... Found>
  void check(bool ok, std::string_view wish, const Found&... found) const {
    require<FileError>(ok, origin_, ": expected ", wish, ", found ", found...);
  }

  bool has(std::uint64_t at, std::uint64_t bytes) const { return at <= file_.size() && bytes <= file_.size() - at; }
  bool has_mark(std::uint64_t at, std::string_view mark) const { return has(at, mark.size()) && file_.substr(at, mark.size()) == mark; }
  // A little-endian number of `bytes` bytes, which must be within the file.
  std::uint64_t number(std::uint64_t at, int bytes) const {
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(file_[at + static_cast<std::uint64_t>(i)]);
    return value;
  }

  // Finds the end record: it has its mark and a comment that extends to the end of the file.
  std::uint64_t find_end() const {
    for (std::uint64_t comment = 0; comment <= longest_comment && has(0, end_bytes + comment); ++comment) {
      const std::uint64_t at = file_.size() - end_bytes - comment;
      if (has_mark(at, end_mark) && number(at + 20, 2) == comment) return at;
    }
    throw FileError(concat_text(origin_, ": expected a complete zip file, as torch.save writes it, found no end record in ", file_.size(), " bytes"));
  }

  Directory find_directory() const {
    const std::uint64_t end = find_end();
    std::uint64_t records = number(end + 10, 2), bytes = number(end + 12, 4), begin = number(end + 16, 4);
    if (end >= zip64_locator_bytes && has_mark(end - zip64_locator_bytes, zip64_locator_mark)) {
      const std::uint64_t at = number(end - zip64_locator_bytes + 8, 8);
      check(has(at, zip64_end_bytes) && has_mark(at, zip64_end_mark), "a zip64 end record at the given offset", "something else");
      records = number(at + 32, 8);
      bytes = number(at + 40, 8);
      begin = number(at + 48, 8);
    }
    check(has(begin, bytes) && begin + bytes <= end, "a zip directory within the file", bytes, " bytes at byte ", begin);
    return {records, begin, begin + bytes};
  }

  // Moves `at` to the next entry.
  Entry read_entry(std::uint64_t& at, std::uint64_t end) const {
    check(end - at >= entry_bytes && has_mark(at, entry_mark), "an entry of the zip directory", "something else");
    const std::uint64_t name_bytes = number(at + 28, 2), extra_bytes = number(at + 30, 2), comment_bytes = number(at + 32, 2);
    const std::uint64_t all = entry_bytes + name_bytes + extra_bytes + comment_bytes;
    check(end - at >= all, "a complete entry of the zip directory", end - at, " bytes");
    Entry entry{.name = file_.substr(at + entry_bytes, name_bytes),
                .flags = number(at + 8, 2),
                .method = number(at + 10, 2),
                .compressed = number(at + 20, 4),
                .bytes = number(at + 24, 4),
                .header = number(at + 42, 4)};
    read_zip64_field(entry, at + entry_bytes + name_bytes, extra_bytes);
    at += all;
    return entry;
  }

  // Reads the extra fields of an entry (kind, size, content). The zip64 field holds the numbers that do not fit in the entry.
  void read_zip64_field(Entry& entry, std::uint64_t at, std::uint64_t bytes) const {
    for (const std::uint64_t end = at + bytes; end - at >= 4;) {
      const std::uint64_t kind = number(at, 2), size = number(at + 2, 2);
      at += 4;
      check(size <= end - at, "complete extra fields in the zip directory", "a truncated one");
      std::uint64_t next = at;
      for (std::uint64_t* value : {&entry.bytes, &entry.compressed, &entry.header}) {
        if (kind != zip64_field || *value != in_zip64) continue;
        check(at + size - next >= 8, "64-bit numbers in a zip64 field", "a field that is too short");
        *value = number(next, 8);
        next += 8;
      }
      at += size;
    }
  }

  // A record follows its header and ends before the directory.
  ZipRecord record_of(const Entry& entry, std::uint64_t end) const {
    if (entry.method != 0 || (entry.flags & encrypted) != 0) return {};
    check(has(entry.header, header_bytes) && has_mark(entry.header, header_mark), "a record header at the given offset", "something else for ",
          shown_text(entry.name));
    const std::uint64_t begin = entry.header + header_bytes + number(entry.header + 26, 2) + number(entry.header + 28, 2);
    check(entry.compressed == entry.bytes && begin <= end && entry.bytes <= end - begin, "records within the zip file", entry.bytes,
          " bytes of ", shown_text(entry.name), " at byte ", begin, " of ", end);
    return {.stored = true, .begin = begin, .bytes = entry.bytes};
  }

  const std::string& origin_;
  const std::string_view file_;
};

}  // namespace

std::map<std::string, ZipRecord> list_zip_records(const std::string& origin, std::span<const std::byte> file) { return Lister(origin, file).run(); }

}  // namespace mblm
