// File descriptors.
#include "engine/io/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "tests/error_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {

TEST_CASE("all bytes are written and can be read from any offset") {
  const TemporaryFolder folder;
  const FileDescriptor file(::open((folder / "x").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  REQUIRE(file.is_open());
  const std::string text = "0123456789";
  CHECK(write_all(file.number(), text.data(), text.size()) == text.size());
  std::array<char, 8> read{};
  CHECK(read_at(file.number(), read.data(), 4, 3) == 4);
  CHECK(std::string(read.data(), 4) == "3456");
  CHECK(read_at(file.number(), read.data(), read.size(), 7) == 3);  // the file ends
  CHECK(read_at(file.number(), read.data(), read.size(), 10) == 0);
}

TEST_CASE("a slow pipe receives all bytes") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const FileDescriptor out(ends[0]), in(ends[1]);
  const std::vector<char> bytes(1 << 20, 'x');
  std::size_t taken = 0;
  std::thread reader([&] {
    std::array<char, 999> part{};
    while (taken < bytes.size()) taken += static_cast<std::size_t>(::read(out.number(), part.data(), part.size()));
  });
  CHECK(write_all(in.number(), bytes.data(), bytes.size()) == bytes.size());
  reader.join();
  CHECK(taken == bytes.size());
}

TEST_CASE("a failed call reports its reason") {
  const FileDescriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  CHECK(write_all(full.number(), "text", 4) == 0);
  CHECK(errno == ENOSPC);
  char byte = 0;
  CHECK(read_at(full.number(), &byte, 1, 0) == -1);
  CHECK(error_text<FileError>([] { throw_file_error("a/b", "cannot be read", ENOENT); }) == "a/b: cannot be read: No such file or directory");
}

}  // namespace mblm::testing
