// The records of a zip file, zip64 too, where they lie. Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
// (Debian's minizip takes the sizes and places in zip64 fields for 2^32 - 1.)
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace mblm {

struct ZipRecord {
  bool stored = false;    // as it is; else compressed or encrypted, and the rest says nothing
  std::size_t begin = 0;  // its first byte in the file
  std::size_t bytes = 0;
};

// Every record by its name. Throws FileError, its message beginning with `origin`, for bytes that are no whole zip file, for a
// name that stands twice, and for a stored record that does not lie within `file`.
std::map<std::string, ZipRecord> list_zip_records(const std::string& origin, std::span<const std::byte> file);

}  // namespace mblm
