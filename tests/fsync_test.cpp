// The order in which an atomic file is flushed to disk.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "tests/system_calls.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

// A call of fsync: the file or folder, and what the watched file held at that time.
struct Flush {
  std::filesystem::path path;
  std::string watched;
  bool is_folder = false;
};
struct Watch {
  std::filesystem::path file;
  int fails_with = 0;  // errno of flushing a file
  std::vector<Flush> flushes;
};

Watch flushes_of(const std::filesystem::path& file, int fails_with, const std::function<void()>& work) {
  Watch watch{file, fails_with, {}};
  const HookedSystemCalls hooked({.fsync = [&](int descriptor) {
    struct stat status {};
    ::fstat(descriptor, &status);
    const bool is_folder = S_ISDIR(status.st_mode);
    std::error_code error;
    watch.flushes.push_back({std::filesystem::read_symlink(concat_text("/proc/self/fd/", descriptor), error), read_file(watch.file), is_folder});
    return is_folder ? 0 : watch.fails_with;
  }});
  work();
  return watch;
}

}  // namespace

TEST_CASE("an atomic file is flushed before it replaces the old one, and its folder afterwards") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file", real = std::filesystem::canonical(folder.path());
  write_file(path, "old");
  const std::vector<Flush> flushes = flushes_of(path, 0, [&] { write_file_atomically(path, "new"); }).flushes;
  REQUIRE(flushes.size() == 2);
  CHECK_FALSE(flushes[0].is_folder);
  CHECK(flushes[0].path.parent_path() == real);
  CHECK(flushes[0].path.filename().string().starts_with("file.tmp"));
  CHECK(flushes[0].watched == "old");
  CHECK(flushes[1].is_folder);
  CHECK(flushes[1].path == real);
  CHECK(flushes[1].watched == "new");
}

TEST_CASE("a file that cannot be flushed because of the disk does not replace the old one") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file";
  write_file(path, "old");
  std::string message;
  flushes_of(path, EIO, [&] { message = message_of<FileError>([&] { write_file_atomically(path, "new"); }); });
  CHECK(message == path.string() + ": cannot flush the file to disk: Input/output error");
  CHECK(read_file(path) == "old");
  CHECK(folder.count() == 1);
}

TEST_CASE("a file does not replace a folder that appeared while it was written") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file";
  const std::string message = message_of<FileError>([&] {
    AtomicFile file(path);
    file.write("new", 3);
    folder.write("file/inside", "kept");
    file.commit();
  });
  CHECK(message == path.string() + ": cannot rename the temporary file: Is a directory");
  CHECK(read_file(path / "inside") == "kept");
  CHECK(folder.count() == 1);
}

}  // namespace mblm::testing
