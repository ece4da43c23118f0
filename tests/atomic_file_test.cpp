// Atomically written files, and mapped files.
#include "engine/io/atomic_file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "engine/error.h"
#include "engine/io/mapped_file.h"
#include "tests/error_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

// Limits the size of files of this process to `bytes` during its lifetime, which simulates a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("a file is written completely and replaces the previous one") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file";
  for (const std::string& content : {std::string("first"), std::string("second, longer"), std::string(), std::string(3'000'000, 'x')}) {
    write_file_atomically(path, content);
    CHECK(read_file(path) == content);
    CHECK(folder.count() == 1);
  }
}

TEST_CASE("a file that is not committed leaves nothing") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new", 3);
    CHECK(folder.count() == 2);
    CHECK(read_file(path) == "old");
  }
  CHECK(folder.count() == 1);
  CHECK(read_file(path) == "old");
}

TEST_CASE("a full disk is an error and leaves the old file") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file";
  write_file(path, "old");
  const std::string message = error_text<FileError>([&] {
    const FileSizeLimit limit(65536);
    write_file_atomically(path, std::string(100000, 'x'));
  });
  CHECK(message == path.string() + ": cannot write 34464 bytes after the first 65536: File too large");
  CHECK(read_file(path) == "old");
  CHECK(folder.count() == 1);
}

TEST_CASE("paths that cannot be written") {
  const TemporaryFolder folder;
  const std::filesystem::path missing = folder / "missing/file";
  CHECK(error_text<FileError>([&] { write_file_atomically(missing, "x"); }) ==
        missing.string() + ": cannot create the file: No such file or directory");
  std::filesystem::create_directory(folder / "folder");
  CHECK(error_text<FileError>([&] { write_file_atomically(folder / "folder", "x"); }) ==
        (folder / "folder").string() + ": expected a file, found a folder");
  CHECK_THROWS_AS(write_file_atomically("/dev/null", "x"), FileError);  // it is not replaced
  CHECK(std::filesystem::is_character_file("/dev/null"));
  CHECK_THROWS_AS(write_file_atomically(folder / std::string(300, 'n'), "x"), FileError);
  CHECK_THROWS_AS(write_file_atomically("", "x"), FileError);
  CHECK(folder.count() == 1);
}

TEST_CASE("writing through a link replaces its target") {
  const TemporaryFolder folder;
  write_file(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  write_file_atomically(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_file(folder / "target") == "new");
  std::filesystem::remove(folder / "target");
  CHECK_THROWS_AS(write_file_atomically(folder / "link", "new"), FileError);
}

TEST_CASE("temporary files of other programs are not overwritten") {
  const TemporaryFolder folder;
  const auto next_name = [&] {
    AtomicFile probe(folder / "file");
    for (const auto& entry : std::filesystem::directory_iterator((folder / "file").parent_path()))
      if (entry.path() != folder / "file") return entry.path().string();
    return std::string();
  };
  std::string left = next_name();
  const std::size_t dash = left.rfind('-');
  const int number = std::stoi(left.substr(dash + 1));
  left.resize(dash + 1);
  write_file(left + std::to_string(number + 1), "left");
  write_file_atomically(folder / "file", "new");
  CHECK(read_file(folder / "file") == "new");
  CHECK(read_file(left + std::to_string(number + 1)) == "left");
}

TEST_CASE("mapped files") {
  const TemporaryFolder folder;
  write_file(folder / "file", "content");
  const MappedFile file(folder / "file");
  CHECK(std::string(reinterpret_cast<const char*>(file.data()), file.size()) == "content");
  write_file(folder / "empty", "");
  CHECK(MappedFile(folder / "empty").size() == 0);
  const auto message = [&](const std::string& name) { return error_text<FileError>([&] { MappedFile(folder / name); }); };
  CHECK(message("missing") == (folder / "missing").string() + ": cannot read the file: No such file or directory");
  std::filesystem::create_directory(folder / "folder");
  CHECK(message("folder") == (folder / "folder").string() + ": expected a file, found a folder");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);  // rejected without blocking
  CHECK(message("pipe") == (folder / "pipe").string() + ": expected a file, found a device or pipe");
}

}  // namespace mblm::testing
