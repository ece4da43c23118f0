// Questions about files and folders.
#include "engine/io/folder.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "tests/system_calls.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {

TEST_CASE("paths exist, are folders, or cannot be read") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.write("file", "x");
  std::filesystem::create_symlink("nowhere", folder / "broken");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK(path_exists(file));
  CHECK(path_exists(folder.path()));
  CHECK_FALSE(is_folder(file));
  CHECK(is_folder(folder.path()));
  for (const auto& nothing : {folder / "no", folder / "file/no", folder / "broken"}) {
    CHECK_FALSE(path_exists(nothing));
    CHECK_FALSE(is_folder(nothing));
  }
  CHECK(message_of<FileError>([&] { path_exists(folder / "loop"); }) == (folder / "loop").string() + ": cannot be read: Too many levels of symbolic links");
  const std::filesystem::path long_name = folder / std::string(300, 'x');
  CHECK(message_of<FileError>([&] { is_folder(long_name); }) == long_name.string() + ": cannot be read: File name too long");
}

TEST_CASE("the entries of a folder are sorted, and a folder that cannot be read is an error") {
  const TemporaryFolder folder;
  for (const char* name : {"b", "a", "c/inner"}) folder.write(name, "");
  CHECK(entries_of(folder.path()) == std::vector<std::filesystem::path>{folder / "a", folder / "b", folder / "c"});
  CHECK(message_of<FileError>([&] { entries_of(folder / "no"); }) == (folder / "no").string() + ": cannot be read: No such file or directory");
  // The folder can be opened, and reading on fails.
  int calls = 0;
  const HookedSystemCalls hooked({.readdir = [&] { return ++calls > 3 ? EIO : 0; }});
  CHECK(message_of<FileError>([&] { entries_of(folder.path()); }) == folder.path().string() + ": cannot be read: Input/output error");
  CHECK(calls == 4);
  calls = 3;
  CHECK(message_of<FileError>([&] { remove_unfinished_files(folder.path()); }) == folder.path().string() + ": cannot be read: Input/output error");
}

TEST_CASE("removing goes on after a failure and reports it") {
  const TemporaryFolder folder;
  for (const char* name : {"a", "full/inner", "z"}) folder.write(name, "");
  CHECK(message_of<FileError>([&] { remove_all_of({folder / "a", folder / "full", folder / "missing", folder / "z"}); }) ==
        (folder / "full").string() + ": cannot be removed: Directory not empty");
  CHECK(entries_of(folder.path()) == std::vector<std::filesystem::path>{folder / "full"});
}

TEST_CASE("a file is written where the file system cannot flush, and a flush that fails is an error") {
  const TemporaryFolder folder;
  int flushes = 0, result = 0;
  const HookedSystemCalls hooked({.fsync = [&](int) { return ++flushes, result; }});
  const auto write = [&](const char* content) { write_file_atomically(folder / "file", content); };
  write("one");
  CHECK(flushes == 2);  // the file and its folder
  for (const int unsupported : {EINVAL, ENOTSUP, ENOSYS}) {
    result = unsupported;
    const std::string content = std::to_string(unsupported);
    write(content.c_str());
    CHECK(read_file(folder / "file") == content);
  }
  result = EIO;
  CHECK(message_of<FileError>([&] { write("lost"); }) == (folder / "file").string() + ": cannot flush the file to disk: Input/output error");
  CHECK(read_file(folder / "file") == std::to_string(ENOSYS));
  CHECK(folder.count() == 1);
}

}  // namespace mblm::testing
