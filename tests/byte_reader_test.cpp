// Files read as streams, files written out of order, and the names of builds.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "engine/build.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/byte_reader.h"
#include "engine/tiny_numbers.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

std::string read_part(ByteReader& reader, std::size_t bytes) {
  std::vector<std::uint8_t> part(bytes);
  part.resize(reader.read(part));
  return {part.begin(), part.end()};
}

}  // namespace

TEST_CASE("a byte reader returns a file in parts of any size, fewer bytes only at the end") {
  const TemporaryFolder folder;
  const std::string file = folder.write("f", "0123456789");
  ByteReader reader(file);
  CHECK(reader.name() == file);
  CHECK(reader.size() == 10);
  CHECK(read_part(reader, 4) == "0123");
  CHECK(reader.offset() == 4);
  CHECK(reader.size() == 10);
  CHECK(read_part(reader, 0).empty());
  CHECK(read_part(reader, 100) == "456789");
  CHECK(read_part(reader, 1).empty());
  CHECK(reader.offset() == 10);
}

TEST_CASE("a byte reader fills its part from a pipe that delivers less at a time") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::thread writer([&] {
    const FileDescriptor out(::open(pipe.c_str(), O_WRONLY));
    for (int i = 0; i < 5; ++i) {
      write_all(out.number(), "abc", 3);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  ByteReader reader(pipe);
  CHECK(!reader.size());
  CHECK(read_part(reader, 10) == "abcabcabca");
  CHECK(read_part(reader, 10) == "bcabc");
  writer.join();
}

TEST_CASE("a byte reader refuses missing files and folders") {
  const TemporaryFolder folder;
  CHECK(message_of<FileError>([&] { ByteReader reader(folder / "missing"); }) == (folder / "missing").string() + ": cannot be read: No such file or directory");
  CHECK(message_of<FileError>([&] { ByteReader reader(folder.path()); }) == folder.path().string() + ": expected a file, found a folder");
}

TEST_CASE("an atomic file is written at any offset, and write() continues where it was") {
  const TemporaryFolder folder;
  AtomicFile file(folder / "f");
  file.write("....", 4);
  file.write_at(1, "ab", 2);
  file.write("cd", 2);
  file.write_at(8, "z", 1);
  CHECK(!std::filesystem::exists(folder / "f"));
  file.commit();
  CHECK(read_file(folder / "f") == std::string(".ab.cd\0\0z", 9));
}

TEST_CASE("a build has a name of 16 digits and the version of the C library, an instruction set and a device") {
  const std::string name = build_name(Device{});
  CHECK(name == build_name(Device{}));
  CHECK(name.starts_with("build "));
  CHECK(name.substr(6, 16).find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(name.substr(22).starts_with(", glibc 2."));
  const std::string instructions = instruction_set();
  CHECK((instructions.starts_with("avx") || instructions.starts_with("sse2") || instructions.starts_with("neon")));
  {
    const TinyNumbersAsZero mode;  // as in a program that is linked with -ffast-math
    CHECK(instruction_set() == instructions);
  }
  CHECK(device_model(Device{}) == "cpu");
}

}  // namespace mblm::testing
