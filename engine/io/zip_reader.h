// Locates the records of a zip or zip64 file. Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
// (Debian's minizip is not used: it reads the sizes and offsets in zip64 fields as 2^32 - 1.)
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace mblm {

struct ZipRecord {
  bool stored = false;    // uncompressed; else compressed or encrypted, and the other fields are not set
  std::size_t begin = 0;  // its first byte in the file
  std::size_t bytes = 0;
};

// Returns all records by name. Throws FileError, whose message begins with `origin`, for bytes that are not a complete zip file,
// for duplicate names, and for a stored record that is not within `file`.
std::map<std::string, ZipRecord> list_zip_records(const std::string& origin, std::span<const std::byte> file);

}  // namespace mblm
