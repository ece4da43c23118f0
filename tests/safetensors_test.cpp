// Safetensors files: round trips, and damaged or malicious files.
#include "engine/io/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "tests/error_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// A file with the given header and `data_bytes` bytes of elements.
std::string file_with(const std::string& header, std::size_t data_bytes = 0) {
  return little_endian(header.size()) + header + std::string(data_bytes, '\1');
}

// Reads all tensors of a file.
void read_all(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  for (const std::string& name : file.names()) {
    const Tensor tensor = file.tensor(name);
    std::vector<std::byte> bytes(tensor.bytes() + 1);
    tensor.to_host(bytes.data());
  }
}

// The error message for the content, without the path at its start.
std::string refusal(const TemporaryFolder& folder, const std::string& content) {
  const std::filesystem::path path = folder / "bad.safetensors";
  write_file(path, content);
  const std::string message = error_text<FileError>([&] { read_all(path); });
  if (message == "no error") return message;
  REQUIRE(message.starts_with(path.string() + ": expected "));
  CHECK(message.find(path.string(), 1) == std::string::npos);
  CHECK(message.find(", found ") != std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.size() < 1000);
  return message.substr(path.string().size() + 2);
}

std::string small_file(const TemporaryFolder& folder) {
  const std::filesystem::path path = folder / "small.safetensors";
  write_safetensors(path, {{"a", from_values<float>(Shape{2, 2}, {1, 2, 3, 4})}, {"b", from_values<std::uint8_t>(Shape{3}, {5, 6, 7})}},
                    {{"k", "v"}});
  return read_file(path);
}

}  // namespace

TEST_CASE("round trip of a safetensors file") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file.safetensors";
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"quotes \" and \xc3\xa9", "line\nbreak"}};
  write_safetensors(path,
                    {{"z", from_values<float>(Shape{2, 3}, {1, 2, 3, 4, 5, 6})},
                     {"bytes", from_values<std::uint8_t>(Shape{3}, {1, 2, 255})},
                     {"odd place", from_values<double>(Shape{2}, {0.1, -0.2})},  // begins at byte 27
                     {"scalar", from_values<std::int64_t>(Shape{}, {-5})},
                     {"none", zeros(Shape{0, 4}, DType::Float32)},
                     {"half", from_values<bfloat16>(Shape{1}, {bfloat16(1.5f)})},
                     {"int", from_values<std::int32_t>(Shape{1, 1}, {-7})}},
                    metadata);
  const SafetensorsFile file(path);
  CHECK(file.names() == std::vector<std::string>{"bytes", "half", "int", "none", "odd place", "scalar", "z"});
  CHECK(file.metadata() == metadata);
  CHECK(file.has("z"));
  CHECK_FALSE(file.has("y"));
  CHECK(file.tensor("z").shape() == Shape{2, 3});
  CHECK(file.tensor("z").to_vector<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(file.tensor("bytes").to_vector<std::uint8_t>() == std::vector<std::uint8_t>{1, 2, 255});
  CHECK(file.tensor("odd place").to_vector<double>() == std::vector<double>{0.1, -0.2});
  CHECK(file.tensor("scalar").item() == -5);
  CHECK(file.tensor("scalar").rank() == 0);
  CHECK(file.tensor("none").shape() == Shape{0, 4});
  CHECK(file.tensor("half").item() == 1.5);
  CHECK(file.tensor("int").item() == -7);
  CHECK(error_text<FileError>([&] { (void)file.tensor("y"); }) == path.string() + ": there is no tensor y");
}

TEST_CASE("tensors are views of the file, or copies if misaligned") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file.safetensors";
  write_safetensors(path, {{"byte", from_values<std::uint8_t>(Shape{1}, {1})}, {"float", from_values<float>(Shape{2}, {2, 3})}});
  Tensor byte, values;
  {
    const SafetensorsFile file(path);
    byte = file.tensor("byte");
    values = file.tensor("float");
    CHECK(byte.same_storage(file.tensor("byte")));
    CHECK_FALSE(values.same_storage(byte));
  }
  CHECK(byte.item() == 1);  // the tensors outlive the file object
  CHECK(reinterpret_cast<std::uintptr_t>(values.host_data<float>()) % alignof(float) == 0);
  CHECK(values.host_data<float>()[1] == 3);
}

TEST_CASE("the written format matches the reference implementation") {
  const TemporaryFolder folder;
  const std::string content = small_file(folder);
  const std::string header =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const float values[] = {1, 2, 3, 4};
  CHECK(content == little_endian(padded.size()) + padded + std::string(reinterpret_cast<const char*>(values), 16) + "\5\6\7");
  write_safetensors(folder / "empty", {});
  CHECK(read_file(folder / "empty") == little_endian(8) + "{}      ");
  CHECK(SafetensorsFile(folder / "empty").names().empty());
}

TEST_CASE("headers of other writers are read") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "other.safetensors";
  // White space, another order of keys and of tensors, BOOL, empty ranges between others, escapes.
  write_file(path, file_with(R"({ "late" : {"data_offsets":[2,4], "shape":[2], "dtype":"BOOL"},
    "empty":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}, "e\u0061rly":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]}, "__metadata__":{} }   )",
                             4));
  const SafetensorsFile file(path);
  CHECK(file.names() == std::vector<std::string>{"early", "empty", "late"});
  CHECK(file.tensor("late").dtype() == DType::UInt8);
  CHECK(file.tensor("late").to_vector<std::uint8_t>() == std::vector<std::uint8_t>{1, 1});
  CHECK(file.tensor("empty").numel() == 0);
  CHECK(file.metadata().empty());
}

TEST_CASE("truncated safetensors files are rejected") {
  const TemporaryFolder folder;
  const std::string content = small_file(folder);
  REQUIRE(refusal(folder, content) == "no error");
  for (std::size_t length = 0; length < content.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal(folder, content.substr(0, length)) != "no error");
  }
  CHECK(refusal(folder, content + "x") == "expected 19 bytes of elements after the header, found 20");
}

TEST_CASE("invalid header lengths are rejected") {
  const TemporaryFolder folder;
  const std::string rest(100, ' ');
  CHECK(refusal(folder, "") == "expected a safetensors file, found only 0 bytes");
  CHECK(refusal(folder, "1234567") == "expected a safetensors file, found only 7 bytes");
  CHECK(refusal(folder, little_endian(0) + rest) == "expected a header that begins with {, found an empty header");
  CHECK(refusal(folder, little_endian(101) + rest) == "expected a header of 101 bytes, found 100 bytes until the end of the file");
  CHECK(refusal(folder, little_endian(109) + rest) == "expected a header of 109 bytes, found 100 bytes until the end of the file");
  for (const std::uint64_t length : {std::uint64_t{100'000'001}, std::uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7})
    CHECK(refusal(folder, little_endian(length) + rest) ==
          concat_text("expected a safetensors header of at most 100000000 bytes, found a length of ", length));
  CHECK(refusal(folder, "PK\3\4 a zip archive, as of torch.save").starts_with("expected a safetensors header of at most"));
  CHECK(refusal(folder, file_with(" {}")) == "expected a header that begins with {, found \" {}\"");
  CHECK(refusal(folder, file_with("\xef\xbb\xbf{}")).starts_with("expected a header that begins with {"));
}

TEST_CASE("malformed headers are rejected") {
  const TemporaryFolder folder;
  const auto tensor = [&](const std::string& entry, std::size_t data_bytes = 4) {
    return refusal(folder, file_with("{\"t\":" + entry + "}", data_bytes));
  };
  const auto header = [&](const std::string& text) { return refusal(folder, file_with(text, 4)); };
  REQUIRE(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})") == "no error");

  CHECK(header("{") == "expected a JSON header, found a syntax error at byte 2 of the header");
  CHECK(header("{} x").starts_with("expected a JSON header, found a syntax error"));
  CHECK(header("{}{}").starts_with("expected a JSON header, found a syntax error"));
  CHECK(header("{'t':1}").starts_with("expected a JSON header, found a syntax error"));
  CHECK(header("{\"\xff\":{}}").starts_with("expected a JSON header, found a syntax error"));
  CHECK(header(std::string("{}\0 garbage", 11)) == "expected a JSON header, found a zero byte at byte 3 of the header");
  CHECK(header(std::string(100000, '{')).starts_with("expected a JSON header, found a syntax error"));
  CHECK(header("{\"t\":" + std::string(100000, '[')) == "expected an object for \"t\", found a list");
  CHECK(header("{\"__metadata__\":{\"k\":" + std::string(100000, '[')) == "expected a string as metadata \"k\", found a list");
  CHECK(header(R"({"__metadata__":[]})") == "expected an object for \"__metadata__\", found a list");
  CHECK(header(R"({"__metadata__":{"k":1}})") == "expected a string as metadata \"k\", found a number");
  CHECK(header(R"({"__metadata__":{"k":{}}})") == "expected a string as metadata \"k\", found an object");
  CHECK(header(R"({"__metadata__":{"k":"v","k":"w"}})") == "expected unique keys, found duplicate key \"k\"");
  CHECK(header(R"({"__metadata__":{},"__metadata__":{}})") == "expected unique keys, found duplicate key \"__metadata__\"");

  CHECK(tensor("null") == "expected an object for \"t\", found null");
  CHECK(tensor("3") == "expected an object for \"t\", found a number");
  CHECK(tensor("\"x\"") == "expected an object for \"t\", found a string");
  CHECK(tensor("{}") == "expected dtype, shape and data_offsets of tensor \"t\", found missing fields");
  CHECK(tensor(R"({"dtype":"F32","shape":[1]})") == "expected dtype, shape and data_offsets of tensor \"t\", found missing fields");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1})") ==
        "expected dtype, shape and data_offsets of tensor \"t\", found \"extra\"");
  CHECK(tensor(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})") == "expected unique keys, found duplicate key \"dtype\"");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})") ==
        "expected unique keys, found duplicate key \"t\"");
  CHECK(tensor(R"({"dtype":5,"shape":[1],"data_offsets":[0,4]})") == "expected a string as dtype of tensor \"t\", found a number");
  CHECK(tensor(R"({"dtype":{},"shape":[1],"data_offsets":[0,4]})") == "expected a string as dtype of tensor \"t\", found an object");
  CHECK(tensor(R"({"dtype":"F32","shape":4,"data_offsets":[0,4]})") == "expected a list as shape of tensor \"t\", found a number");
  CHECK(tensor(R"({"dtype":"F32","shape":[[1]],"data_offsets":[0,4]})") == "expected sizes of 0 or more as shape of tensor \"t\", found a list");
  CHECK(tensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})") == "expected sizes of 0 or more as shape of tensor \"t\", found -1");
  CHECK(tensor(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})") == "expected sizes of 0 or more as shape of tensor \"t\", found 1.0");
  CHECK(tensor(R"({"dtype":"F32","shape":[true],"data_offsets":[0,4]})") == "expected sizes of 0 or more as shape of tensor \"t\", found a boolean");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":{}})") == "expected a list as data_offsets of tensor \"t\", found an object");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":["0",4]})") ==
        "expected byte offsets as data_offsets of tensor \"t\", found a string");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})") == "expected two data_offsets of tensor \"t\", found 1");
  CHECK(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})") == "expected two data_offsets of tensor \"t\", found more");
}

TEST_CASE("unsupported element types are rejected by name") {
  const TemporaryFolder folder;
  for (const char* dtype : {"F8_E5M2", "I8", "I16", "U16", "U32", "U64", "F8_E4M3", "f32", "", "F32 ", "\\n"}) {
    const std::string header = concat_text(R"({"t":{"dtype":")", dtype, R"(","shape":[2],"data_offsets":[0,4]}})");
    CHECK(refusal(folder, file_with(header, 4)) == concat_text("expected F32, F64, BF16, F16, I32, I64, U8 or BOOL elements of tensor \"t\", found \"",
                                                               std::string(dtype) == "\\n" ? "?" : dtype, '"'));
  }
}

TEST_CASE("shapes and ranges that do not match are rejected") {
  const TemporaryFolder folder;
  const auto one = [&](const std::string& shape, const std::string& offsets, std::size_t data_bytes = 8) {
    return refusal(folder, file_with(concat_text(R"({"t":{"dtype":"F32","shape":[)", shape, R"(],"data_offsets":[)", offsets, "]}}"), data_bytes));
  };
  const auto two = [&](const std::string& first, const std::string& second) {
    return refusal(folder, file_with(concat_text(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[)", first,
                                                 R"(]},"b":{"dtype":"U8","shape":[4],"data_offsets":[)", second, "]}}"),
                                     8));
  };
  REQUIRE(one("2", "0,8") == "no error");
  REQUIRE(two("4,8", "0,4") == "no error");
  CHECK(one("3", "0,8") == "expected 12 bytes for shape (3) of tensor \"t\", found 8");
  CHECK(one("1", "0,8") == "expected 4 bytes for shape (1) of tensor \"t\", found 8");
  CHECK(one("2", "8,0") == "expected data_offsets of tensor \"t\" within 8 bytes, found 8 to 0");
  CHECK(one("2", "4,12") == "expected data_offsets of tensor \"t\" within 8 bytes, found 4 to 12");
  CHECK(one("2", "18446744073709551608,18446744073709551615").starts_with("expected data_offsets of tensor \"t\" within 8 bytes"));
  CHECK(one("2", "0,18446744073709551616").starts_with("expected byte offsets as data_offsets of tensor \"t\", found 18446744073709551616"));
  CHECK(one("1", "4,8") == "expected tensor \"t\" to begin at byte 0, the end of the previous tensor, found a gap: it begins at byte 4");
  CHECK(one("1", "0,4") == "expected 4 bytes of elements after the header, found 8");
  CHECK(one("0", "4,4").starts_with("expected tensor \"t\" to begin at byte 0"));
  CHECK(one("4294967296,4294967296", "0,8").starts_with("expected a valid shape of tensor \"t\", found shape: (4294967296, 4294967296)"));
  CHECK(one("4611686018427387904,4611686018427387904,0", "0,0", 0).starts_with("expected a valid shape of tensor \"t\""));
  CHECK(one("4611686018427387904", "0,0") == "expected sizes of tensor \"t\" that fit in memory, found (4611686018427387904)");  // 2^64 bytes
  CHECK(one("9223372036854775808", "0,8") == "expected sizes below 2^63 of tensor \"t\", found 9223372036854775808");
  CHECK(one("18446744073709551616", "0,8").starts_with("expected sizes of 0 or more as shape of tensor \"t\", found 18446744073709551616"));
  CHECK(one("1,1,1,1,1,1,1,1,2", "0,8") == "expected at most 8 axes of tensor \"t\", found more");
  CHECK(one("1,1,1,1,1,1,1,2", "0,8") == "no error");
  CHECK(two("0,4", "0,4") == "expected tensor \"b\" to begin at byte 4, the end of the previous tensor, found an overlap: it begins at byte 0");
  CHECK(two("0,4", "3,7") == "expected tensor \"b\" to begin at byte 4, the end of the previous tensor, found an overlap: it begins at byte 3");
}

TEST_CASE("long names and control characters give short messages of one line") {
  const TemporaryFolder folder;
  const std::string name(1'000'000, 'n');
  CHECK(refusal(folder, file_with("{\"" + name + "\":1}")) == "expected an object for \"" + std::string(100, 'n') + "...\", found a number");
  CHECK(refusal(folder, file_with(R"({"a\n\u001b[2Jb":1})")) == "expected an object for \"a??[2Jb\", found a number");
}

TEST_CASE("randomly damaged safetensors files are read or rejected") {
  const TemporaryFolder folder;
  const std::string content = small_file(folder);
  std::mt19937_64 random(1);
  const std::string digits = "0123456789{}[]\",:-e. \\";
  for (int trial = 0; trial < 500; ++trial) {
    std::string damaged = content;
    for (std::uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      char& byte = damaged[random() % damaged.size()];
      byte = random() % 2 == 0 ? static_cast<char>(random()) : digits[random() % digits.size()];
    }
    CAPTURE(trial);
    refusal(folder, damaged);
  }
}

TEST_CASE("tensors that the format cannot store are not written") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file.safetensors";
  write_file(path, "old");
  const Tensor x = zeros(Shape{1}, DType::Float32);
  const auto message = [&](const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata = {}) {
    const std::string text = error_text<FileError>([&] { write_safetensors(path, tensors, metadata); });
    REQUIRE(text.starts_with(path.string() + ": "));
    return text.substr(path.string().size() + 2);
  };
  CHECK(message({{"x", Tensor{}}}) == "expected a tensor x, found an undefined one");
  CHECK(message({{"x", x}, {"x", x}}) == "duplicate tensor name x");
  CHECK(message({{"__metadata__", x}}) == "duplicate tensor name __metadata__");
  CHECK(message({{"\xff", x}}) == "expected names and metadata in UTF-8, found invalid bytes");
  CHECK(message({{"x", x}}, {{"k", "\xff"}}) == "expected names and metadata in UTF-8, found invalid bytes");
  CHECK(read_file(path) == "old");
  CHECK(folder.count() == 1);
}

TEST_CASE("float16 is read as float32, also misaligned") {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& before, std::size_t bytes_before) {
    const std::string header = concat_text("{", before, R"("t":{"dtype":"F16","shape":[2,2],"data_offsets":[)", bytes_before, ",", bytes_before + 8, "]}}");
    write_file(folder / "half.safetensors", little_endian(header.size()) + header + std::string(bytes_before, '\1') +
                                                std::string("\x00\x3c\x00\xc1\xff\x7b\x01\x00", 8));
    const Tensor tensor = SafetensorsFile(folder / "half.safetensors").tensor("t");
    CHECK(tensor.dtype() == DType::Float32);
    CHECK(tensor.shape() == Shape{2, 2});
    return tensor.to_vector<float>();
  };
  const std::vector<float> expected{1, -2.5f, 65504, 0x1p-24f};
  CHECK(read("", 0) == expected);
  CHECK(read(R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)", 3) == expected);
  const std::string wrong = R"({"t":{"dtype":"F16","shape":[2,2],"data_offsets":[0,16]}})";
  CHECK(refusal(folder, file_with(wrong, 16)) == "expected 8 bytes for shape (2, 2) of tensor \"t\", found 16");
}

}  // namespace mblm::testing
