#include "engine/io/file.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::size_t largest_call = std::size_t{1} << 30;  // Linux moves at most 2^31 bytes per call

// Calls `move` with the number of finished bytes and the size of the next part, until all bytes are finished or it moves none.
// Returns its last result.
template <class F>
ssize_t move_all(std::size_t bytes, std::size_t& done, const F& move) {
  ssize_t moved = 0;
  while (done < bytes) {
    moved = move(done, std::min(bytes - done, largest_call));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) break;
    done += static_cast<std::size_t>(moved);
  }
  return moved;
}

}  // namespace

bool FileDescriptor::close() { return number_ < 0 || ::close(std::exchange(number_, -1)) == 0; }

void throw_file_error(const std::filesystem::path& path, std::string_view what, int error) {
  throw FileError(concat_text(path.string(), ": ", what, ": ", std::generic_category().message(error)));
}

int flush_to_disk(int file) {
  int result;
  do result = ::fsync(file);
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

bool is_unsupported(int error) { return error == EINVAL || error == ENOTSUP || error == EOPNOTSUPP || error == ENOSYS || error == ENOLCK; }

std::size_t write_all(int file, const void* data, std::size_t bytes) {
  std::size_t done = 0;
  const ssize_t last = move_all(bytes, done, [&](std::size_t at, std::size_t count) { return ::write(file, static_cast<const char*>(data) + at, count); });
  if (done < bytes && last == 0) errno = ENOSPC;
  return done;
}

std::size_t write_at(int file, const void* data, std::size_t bytes, std::int64_t offset) {
  std::size_t done = 0;
  const ssize_t last = move_all(bytes, done, [&](std::size_t at, std::size_t count) {
    return ::pwrite(file, static_cast<const char*>(data) + at, count, offset + static_cast<off_t>(at));
  });
  if (done < bytes && last == 0) errno = ENOSPC;
  return done;
}

std::int64_t read_all(int file, void* data, std::size_t bytes) {
  std::size_t done = 0;
  const ssize_t last = move_all(bytes, done, [&](std::size_t at, std::size_t count) { return ::read(file, static_cast<char*>(data) + at, count); });
  return last < 0 ? -1 : static_cast<std::int64_t>(done);
}

std::int64_t read_at(int file, void* data, std::size_t bytes, std::int64_t offset) {
  std::size_t done = 0;
  const ssize_t last = move_all(
      bytes, done, [&](std::size_t at, std::size_t count) { return ::pread(file, static_cast<char*>(data) + at, count, offset + static_cast<off_t>(at)); });
  return last < 0 ? -1 : static_cast<std::int64_t>(done);
}

}  // namespace mblm
