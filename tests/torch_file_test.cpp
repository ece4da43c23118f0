// PyTorch checkpoints: files of the Python package, round trips, and damaged or malicious files.
#include "engine/io/torch_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "engine/io/mapped_file.h"
#include "engine/io/safetensors.h"
#include "engine/io/zip_writer.h"
#include "mblm/package_checkpoint.h"
#include "tests/error_text.h"
#include "tests/temporary_folder.h"
#include "tests/torch_bytes.h"

namespace mblm::testing {
namespace {

const std::filesystem::path golden = std::filesystem::path(MBLM_GOLDEN_FOLDER) / "cases";
const std::vector<std::string> packages{"t3d", "m2_2d", "m1_2d"};

std::string bytes_of(const Tensor& tensor) { return std::string(reinterpret_cast<const char*>(tensor.host_bytes().data()), tensor.bytes()); }

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// Reads all tensors of a file.
std::vector<NamedTensor> read_all(const std::filesystem::path& path) {
  const TorchFile file(path);
  std::vector<NamedTensor> tensors;
  for (const TorchTensor& tensor : file.tensors("MODEL")) {
    tensors.push_back({tensor.name, file.read(tensor)});
    bytes_of(tensors.back().tensor);
  }
  return tensors;
}

// The error message for the content, without the path at its start.
std::string refusal(const TemporaryFolder& folder, const std::string& content) {
  const std::filesystem::path path = folder / "bad.pth";
  write_file(path, content);
  const std::string message = error_text<FileError>([&] { read_all(path); });
  if (message == "no error") return message;
  REQUIRE(message.starts_with(path.string() + ": "));
  CHECK(message.find("expected ") != message.npos);
  CHECK(message.find(", found ") != message.npos);
  CHECK(message.find(path.string(), 1) == message.npos);
  CHECK(message.find('\n') == message.npos);
  CHECK(message.size() < 1000);
  return message.substr(path.string().size() + 2);
}

// Writes a file with one tensor called x and reads the tensor.
Tensor read_one(const TemporaryFolder& folder, const TensorBytes& tensor, const std::string& storage) {
  write_file(folder / "one.pth", torch_bytes(pickle_of(tensor), {storage}));
  const std::vector<NamedTensor> all = read_all(folder / "one.pth");
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "x");
  return all[0].tensor;
}

}  // namespace

TEST_CASE("checkpoints of the package contain the tensors of the golden cases") {
  for (const std::string& name : packages) {
    for (const char* version : {"0.4.1", "0.4.2"}) {
      CAPTURE(name);
      CAPTURE(version);
      const TorchFile file(golden / name / concat_text("weights_", version, ".pth"));
      const SafetensorsFile expected(golden / name / "weights.safetensors");
      CHECK(file.number("LOSS") == 1.25);
      CHECK_FALSE(file.number("MODEL"));
      CHECK_FALSE(file.number("nothing"));
      const std::vector<TorchTensor> tensors = file.tensors("MODEL");
      CHECK(tensors.size() == expected.names().size());
      for (const TorchTensor& tensor : tensors) {
        CAPTURE(tensor.name);
        const Tensor ours = file.read(tensor), theirs = expected.tensor(current_name(tensor.name));
        CHECK(ours.shape() == theirs.shape());
        CHECK(ours.dtype() == theirs.dtype());
        CHECK(bytes_of(ours) == bytes_of(theirs));
      }
    }
  }
}

TEST_CASE("round trip of a PyTorch checkpoint") {
  const TemporaryFolder folder;
  const std::vector<NamedTensor> tensors{{"z", from_values<float>(Shape{2, 3}, {1, 2, 3, 4, 5, 6})},
                                         {"a.b", from_values<double>(Shape{}, {0.5})},
                                         {"bf", from_values<bfloat16>(Shape{2}, {bfloat16(1.5f), bfloat16(-2.0f)})},
                                         {"i", from_values<std::int32_t>(Shape{1, 1}, {-7})},
                                         {"l", from_values<std::int64_t>(Shape{1}, {INT64_MIN})},
                                         {"u", from_values<std::uint8_t>(Shape{3}, {1, 2, 255})},
                                         {"empty", zeros(Shape{0, 5}, DType::Float32)}};
  write_torch_file(folder / "file.pth", {{"MODEL", tensors}, {"LOSS", 1.25}, {"OTHER", std::vector<NamedTensor>{tensors[0]}}});
  const TorchFile file(folder / "file.pth");
  CHECK(file.number("LOSS") == 1.25);
  CHECK(file.tensors("OTHER").size() == 1);
  const std::vector<NamedTensor> read = read_all(folder / "file.pth");
  REQUIRE(read.size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].name);
    CHECK(read[i].name == tensors[i].name);
    CHECK(read[i].tensor.shape() == tensors[i].tensor.shape());
    CHECK(read[i].tensor.dtype() == tensors[i].tensor.dtype());
    CHECK(bytes_of(read[i].tensor) == bytes_of(tensors[i].tensor));
    CHECK(reinterpret_cast<std::uintptr_t>(read[i].tensor.host_bytes().data()) % 64 == 0);
  }
}

TEST_CASE("records with 64-bit sizes and offsets") {
  const TemporaryFolder folder;
  const std::vector<std::string> contents{"first", std::string(1000, 'x'), "last"};
  for (const std::uint64_t from : {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{0xffffffff}}) {
    CAPTURE(from);
    AtomicFile file(folder / "file.zip");
    ZipWriter zip(file, from);
    for (const std::string& content : contents) zip.add(content.substr(0, 5), content.data(), content.size());
    zip.finish();
    file.commit();
    const MappedFile mapped(folder / "file.zip");
    const auto records = list_zip_records("file", {mapped.data(), mapped.size()});
    REQUIRE(records.size() == contents.size());
    for (const std::string& content : contents) {
      const ZipRecord& record = records.at(content.substr(0, 5));
      CHECK(record.stored);
      CHECK(record.begin % 64 == 0);
      CHECK(std::string(reinterpret_cast<const char*>(mapped.data()) + record.begin, record.bytes) == content);
    }
  }
}

TEST_CASE("tensors that need no conversion are views of the file") {
  const TemporaryFolder folder;
  write_torch_file(folder / "file.pth", {{"MODEL", std::vector<NamedTensor>{{"x", from_values<float>(Shape{2}, {1, 2})}}}});
  const TorchFile file(folder / "file.pth");
  const TorchTensor x = file.tensors("MODEL")[0];
  CHECK(file.read(x).host_bytes().data() == file.read(x).host_bytes().data());
}

TEST_CASE("element types") {
  const TemporaryFolder folder;
  const auto values = [&](const char* storage, const std::string& bytes, auto zero) {
    TensorBytes tensor{.storage = storage, .sizes = {4}, .strides = {1}};
    return read_one(folder, tensor, bytes).to_vector<decltype(zero)>();
  };
  CHECK(values("FloatStorage", bytes_of<float>({1, -2, 3, 4}), 0.0f) == std::vector<float>{1, -2, 3, 4});
  CHECK(values("DoubleStorage", bytes_of<double>({1, -2, 3, 4}), 0.0) == std::vector<double>{1, -2, 3, 4});
  CHECK(values("LongStorage", bytes_of<std::int64_t>({1, -2, 3, 4}), std::int64_t{}) == std::vector<std::int64_t>{1, -2, 3, 4});
  CHECK(values("IntStorage", bytes_of<std::int32_t>({1, -2, 3, 4}), std::int32_t{}) == std::vector<std::int32_t>{1, -2, 3, 4});
  CHECK(values("ShortStorage", bytes_of<std::int16_t>({1, -2, 300, 4}), std::int32_t{}) == std::vector<std::int32_t>{1, -2, 300, 4});
  CHECK(values("CharStorage", bytes_of<std::int8_t>({1, -2, 3, 4}), std::int32_t{}) == std::vector<std::int32_t>{1, -2, 3, 4});
  CHECK(values("ByteStorage", bytes_of<std::uint8_t>({1, 254, 3, 4}), std::uint8_t{}) == std::vector<std::uint8_t>{1, 254, 3, 4});
  CHECK(values("BoolStorage", bytes_of<std::uint8_t>({1, 0, 1, 1}), std::uint8_t{}) == std::vector<std::uint8_t>{1, 0, 1, 1});
  const TensorBytes brain{.storage = "BFloat16Storage", .sizes = {4}, .strides = {1}};
  CHECK(bytes_of(read_one(folder, brain, bytes_of<std::uint16_t>({0x3fc0, 1, 2, 3}))) == bytes_of<std::uint16_t>({0x3fc0, 1, 2, 3}));
}

TEST_CASE("float16 is converted to float32 exactly") {
  const TemporaryFolder folder;
  const TensorBytes tensor{.storage = "HalfStorage", .elements = 8, .sizes = {8}, .strides = {1}};
  const std::vector<float> values =
      read_one(folder, tensor, bytes_of<std::uint16_t>({0x3c00, 0xc100, 0x7bff, 0x0001, 0x83ff, 0x0400, 0xfc00, 0x7e00})).to_vector<float>();
  CHECK(std::vector<float>(values.begin(), values.end() - 1) ==
        std::vector<float>{1, -2.5f, 65504, 0x1p-24f, -1023 * 0x1p-24f, 0x1p-14f, -INFINITY});
  CHECK(std::isnan(values.back()));
}

TEST_CASE("views of a storage: transposed, sliced, repeated, shared") {
  const TemporaryFolder folder;
  const std::string storage = bytes_of<float>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const auto values = [&](TensorBytes tensor) {
    tensor.elements = 12;
    return read_one(folder, tensor, storage).to_vector<float>();
  };
  CHECK(values({.sizes = {3, 4}, .strides = {4, 1}}) == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(values({.sizes = {4, 3}, .strides = {1, 4}}) == std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  CHECK(values({.offset = 5, .sizes = {2, 2}, .strides = {4, 1}}) == std::vector<float>{5, 6, 9, 10});
  CHECK(values({.offset = 3, .sizes = {2, 1, 3}, .strides = {1, INT64_MAX, 3}}) == std::vector<float>{3, 6, 9, 4, 7, 10});
  CHECK(values({.offset = 2, .sizes = {2, 3}, .strides = {0, 1}}) == std::vector<float>{2, 3, 4, 2, 3, 4});
  CHECK(values({.offset = 11, .sizes = {}, .strides = {}}) == std::vector<float>{11});
  CHECK(values({.offset = 99, .sizes = {0, 3}, .strides = {3, 1}}).empty());

  const TensorBytes whole{.elements = 12, .sizes = {12}, .strides = {1}}, last{.elements = 12, .offset = 8, .sizes = {4}, .strides = {1}};
  write_file(folder / "shared.pth", torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}(" + pickle_text("whole") + whole.pickle() +
                                                            pickle_text("last") + last.pickle() + "us"), {storage}));
  const std::vector<NamedTensor> shared = read_all(folder / "shared.pth");
  REQUIRE(shared.size() == 2);
  CHECK(shared[1].tensor.to_vector<float>() == std::vector<float>{8, 9, 10, 11});
}

TEST_CASE("a parameter is read as its tensor") {
  const TemporaryFolder folder;
  const std::string parameter = pickle_global("torch._utils", "_rebuild_parameter") + pickle_tuple(TensorBytes{}.pickle() + "\x88" + "N") + "R";
  write_file(folder / "file.pth", torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + parameter + "ss"), {std::string(16, '\0')}));
  CHECK(read_all(folder / "file.pth").at(0).tensor.shape() == Shape{2, 2});
}

TEST_CASE("parameters and tensors with attributes are read as their tensors") {
  const TemporaryFolder folder;
  const std::string tensor = TensorBytes{}.pickle(), attributes = "}" + pickle_text("_no_weight_decay") + "\x88s";
  const std::string arguments = tensor.substr(tensor.find('('), tensor.size() - 1 - tensor.find('('));  // of _rebuild_tensor_v2
  const std::string typed = pickle_global("torch._tensor", "_rebuild_from_type_v2") +
                            pickle_tuple(pickle_global("torch._utils", "_rebuild_tensor_v2") + pickle_global("torch", "Tensor") + arguments + attributes) + "R";
  const auto call = [](const char* function, const std::string& items) { return pickle_global("torch._utils", function) + pickle_tuple(items) + "R"; };
  const std::string with_state = call("_rebuild_parameter_with_state", tensor + "\x88N" + attributes);
  const std::string parameter = pickle_global("torch.nn.parameter", "Parameter");
  for (const std::string& value : {typed, with_state, call("_rebuild_parameter", typed + "\x88N"), call("_rebuild_parameter_with_state", typed + "\x88N" + attributes),
                                   call("_rebuild_device_tensor_from_cpu_tensor", tensor + "NN\x88"),
                                   pickle_global("torch._tensor", "_rebuild_from_type_v2") +
                                       pickle_tuple(pickle_global("torch._utils", "_rebuild_parameter") + parameter + pickle_tuple(tensor + "\x88N") + attributes) + "R"}) {
    write_file(folder / "file.pth", torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + value + "ss"), {bytes_of<float>({1, 2, 3, 4})}));
    CHECK(read_all(folder / "file.pth").at(0).tensor.to_vector<float>() == std::vector<float>{1, 2, 3, 4});
  }
  std::string deep = tensor;
  for (int i = 0; i < 100; ++i) deep = call("_rebuild_parameter", deep + "\x88N");
  CHECK(refusal(folder, torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + deep + "ss"), {std::string(16, '\0')}))
            .starts_with("tensor \"x\": expected a tensor, found"));
}

TEST_CASE("entries other than the model's are skipped") {
  const TemporaryFolder folder;
  const auto global = [](const char* module, const char* name, const std::string& items) { return pickle_global(module, name) + pickle_tuple(items) + "R"; };
  const std::string other_storage = pickle_tuple(pickle_text("storage") + pickle_global("torch", "ComplexFloatStorage") + pickle_text("9") + pickle_text("cpu") + "K\1") + "Q";
  for (const std::string& other :
       {std::string("\x8a\x09") + std::string(8, '\xff') + std::string(1, '\0'), global("torch", "Size", pickle_tuple("K\1K\2")), global("torch", "device", pickle_text("cuda")),
        pickle_global("torch", "float32"), pickle_global("torch", "float8_e4m3fn"), global("__builtin__", "set", "](K\1e"), global("_codecs", "encode", pickle_text("a") + pickle_text("latin1")),
        global("__builtin__", "bytearray", pickle_text("a")), global("__builtin__", "complex", "K\1K\1"), pickle_global("collections", "Counter") + "}\x85R",
        global("torch._utils", "_rebuild_tensor_v2", other_storage + pickle_integer(0) + "))"), global("torch._utils", "_rebuild_sparse_tensor", "N"), global("torch._utils", "_rebuild_qtensor", "N"),
        global("torch._utils", "_rebuild_tensor_v3", other_storage), pickle_global("torch", "per_tensor_affine"), global("torch.serialization", "_get_layout", pickle_text("torch.sparse_coo")),
        pickle_global("torch", "FloatTensor"), pickle_global("torch.storage", "UntypedStorage"), std::string("\x8f")}) {
    CAPTURE(shown_text(other));
    write_file(folder / "file.pth", torch_bytes(pickle_file("}(" + pickle_text("A") + other + pickle_text("MODEL") + "}" + pickle_text("x") + TensorBytes{}.pickle() + "s" +
                                                            pickle_text("B") + other + "u"), {bytes_of<float>({1, 2, 3, 4})}));
    CHECK(read_all(folder / "file.pth").at(0).tensor.to_vector<float>() == std::vector<float>{1, 2, 3, 4});
    // As a tensor of the model they are errors.
    CHECK(refusal(folder, torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + other + "ss"), {})).starts_with("tensor \"x\": expected "));
  }
}

TEST_CASE("truncated files of the package are rejected") {
  const TemporaryFolder folder;
  for (const std::string& name : packages) {
    const std::string whole = read_file(golden / name / "weights_0.4.2.pth");
    REQUIRE(refusal(folder, whole) == "no error");
    for (std::size_t percent = 0; percent < 100; ++percent) {
      CAPTURE(percent);
      CHECK(refusal(folder, whole.substr(0, whole.size() * percent / 100)).starts_with("expected a complete zip file, as torch.save writes it"));
    }
    for (std::size_t missing = 1; missing < 200; ++missing) CHECK(refusal(folder, whole.substr(0, whole.size() - missing)) != "no error");
  }
}

TEST_CASE("a pickle that calls other functions is rejected and executes nothing") {
  const TemporaryFolder folder;
  const std::filesystem::path trace = folder / "trace";
  const std::string call = pickle_global("os", "system") + pickle_tuple(pickle_text("touch " + trace.string())) + "R";
  CHECK(refusal(folder, torch_bytes(pickle_file(call), {})) ==
        "expected only globals that torch.save writes for tensors, found \"os.system\"");
  CHECK(refusal(folder, torch_bytes(pickle_file("}" + pickle_text("MODEL") + call + "s"), {})).ends_with("\"os.system\""));
  CHECK_FALSE(std::filesystem::exists(trace));
}

TEST_CASE("invalid storages and shapes are rejected") {
  const TemporaryFolder folder;
  const auto message = [&](const TensorBytes& tensor) {
    const std::string text = refusal(folder, torch_bytes(pickle_of(tensor), {std::string(16, '\1')}));
    if (text == "no error") return text;
    REQUIRE(text.starts_with("tensor \"x\": expected "));
    return text.substr(21);
  };
  constexpr std::int64_t huge = std::int64_t{1} << 62, large = std::int64_t{1} << 32;
  CHECK(message({}) == "no error");
  CHECK(message({.elements = 5}) == "a storage that fits in its record, found 5 elements of 4 bytes in a record of 16 bytes");
  CHECK(message({.storage = "DoubleStorage"}) == "a storage that fits in its record, found 4 elements of 8 bytes in a record of 16 bytes");
  CHECK(message({.elements = huge}).starts_with("a storage that fits in its record, found 4611686018427387904 elements"));
  CHECK(message({.elements = -1}) == "a storage of 0 or more elements, found -1");
  CHECK(message({.key = "1"}) == "a record for its storage, found no record \"1\"");
  CHECK(message({.key = "../data.pkl"}).starts_with("a record for its storage, found no record"));
  CHECK(message({.offset = 1}) == "elements within the storage, found element 4 of 4");
  CHECK(message({.offset = -1}) == "an offset of 0 or more, found -1");
  CHECK(message({.offset = INT64_MAX}) == "strides below 2^63, found an overflow");
  CHECK(message({.sizes = {2, 3}}) == "elements within the storage, found element 4 of 4");
  CHECK(message({.sizes = {2, -2}}) == "sizes of 0 or more, found -2");
  CHECK(message({.strides = {2, -1}}) == "strides of 0 or more, found -1");
  CHECK(message({.strides = {2}}) == "one stride per axis, found 1 for shape (2, 2)");
  CHECK(message({.strides = {huge, 1}}) == "elements within the storage, found element 4611686018427387905 of 4");
  CHECK(message({.sizes = {4, 2}, .strides = {huge, 1}}) == "strides below 2^63, found an overflow");
  CHECK(message({.sizes = {large, large}}).starts_with("a valid shape, found "));
  CHECK(message({.sizes = {large, large}, .strides = {0, 0}}).starts_with("a valid shape, found "));
  CHECK(message({.sizes = {0, large, large}, .strides = {0, 0, 0}}).starts_with("a valid shape, found "));
  CHECK(message({.sizes = {large, 1024}, .strides = {0, 0}}) == "at most 4096 elements per element of the storage, found shape (4294967296, 1024) over 4 elements");
  CHECK(message({.sizes = std::vector<std::int64_t>(9, 1), .strides = std::vector<std::int64_t>(9, 1)}).starts_with("a valid shape, found "));
  const TensorBytes smuggled{.storage = "FloatStorage\n_rebuild_tensor_v2"};
  CHECK(refusal(folder, torch_bytes(pickle_of(smuggled), {std::string(16, '\1')})) != "no error");
}

TEST_CASE("malformed descriptions of tensors are rejected") {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& value) {
    return refusal(folder, torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + value + "ss"), {std::string(16, '\1')}));
  };
  const std::string rebuild = pickle_global("torch._utils", "_rebuild_tensor_v2");
  CHECK(message("K\1") == "tensor \"x\": expected a tensor, found something else");
  CHECK(message(rebuild + ")R") == "tensor \"x\": expected a storage, an offset, sizes and strides, found 0 arguments");
  CHECK(message(rebuild + pickle_tuple("NNNN") + "R") == "tensor \"x\": expected a storage, found something else");
  CHECK(message(rebuild + pickle_tuple("NQNNN") + "R") == "tensor \"x\": expected a storage, found something else");
  CHECK(message(rebuild + pickle_tuple("(NNNNNtQNNN") + "R") == "tensor \"x\": expected a storage with a key, found something else");
  CHECK(message(pickle_global("torch._utils", "_rebuild_parameter") + ")R") == "tensor \"x\": expected a tensor, found something else");
  CHECK(message(pickle_global("torch", "FloatStorage") + ")R") == "tensor \"x\": expected a tensor, found \"torch FloatStorage\"");
  const auto root = [&](const std::string& value) { return refusal(folder, torch_bytes(pickle_file(value), {})); };
  CHECK(root("N") == "expected a dict, found something else");
  CHECK(root("}") == "expected a dict of tensors under \"MODEL\", found none");
  CHECK(root("}" + pickle_text("MODEL") + "Ns") == "expected a dict of tensors under \"MODEL\", found something else");
  CHECK(root("}" + pickle_text("MODEL") + "}NNss") == "expected strings as tensor names, found something else");
  const std::string pair = pickle_text("x") + TensorBytes{}.pickle();
  CHECK(refusal(folder, torch_bytes(pickle_file("}" + pickle_text("MODEL") + "}(" + pair + pair + "us"), {std::string(16, '\0')})) ==
        "expected unique tensor names, found duplicate name \"x\"");
}

TEST_CASE("malformed zip files are rejected") {
  const TemporaryFolder folder;
  const std::string pickle = pickle_of(TensorBytes{}), storage(16, '\1');
  const auto message = [&](const std::vector<ZipEntry>& entries) { return refusal(folder, zip_bytes(entries)); };
  CHECK(message({{"a/data.pkl", pickle}, {"a/data/0", storage}}) == "no error");
  CHECK(message({{"a/data.pkl", pickle}, {"a/data/0", storage, 8}}) ==
        "tensor \"x\": expected an uncompressed storage, found a compressed or encrypted one");
  CHECK(message({{"a/data.pkl", pickle}, {"a/data/0", storage, 0, 1}}) ==
        "tensor \"x\": expected an uncompressed storage, found a compressed or encrypted one");
  CHECK(message({{"a/data.pkl", pickle, 8}, {"a/data/0", storage}}) ==
        "expected record data.pkl to be uncompressed, found it compressed or encrypted");
  CHECK(message({{"a/data.pkl", pickle}, {"b/data/0", storage}}) == "tensor \"x\": expected a record for its storage, found no record \"0\"");
  CHECK(message({{"a/data.pkl", pickle}, {"a/data/0", storage}, {"a/data/0", storage}}) ==
        "expected unique record names in the zip file, found duplicate name \"a/data/0\"");
  CHECK(message({{"a/data.pkl", pickle}, {"a/data/0", storage}, {"a/byteorder", "big"}}) == "expected byte order little, found \"big\"");
  CHECK(message({}) == "expected a zip file with a record data.pkl, as torch.save writes it, found no such record");
  CHECK(message({{"data.pkl", pickle}}) == "expected a zip file with a record data.pkl, as torch.save writes it, found no such record");
  CHECK(refusal(folder, "\x80\x02}.").starts_with("expected a complete zip file"));
  const std::string legacy("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q", 25);  // the format of torch.save before version 1.6
  CHECK(refusal(folder, legacy).starts_with("expected a zip file, as torch.save writes it since PyTorch 1.6, found the older format"));
  CHECK(refusal(folder, legacy.substr(0, 14)).starts_with("expected a complete zip file"));
  CHECK(refusal(folder, "").starts_with("expected a complete zip file"));
  std::string beyond = zip_bytes({{"a/data.pkl", pickle}, {"a/data/0", storage}});
  const std::string size = little_endian(16, 4) + little_endian(16, 4), larger = little_endian(1 << 20, 4) + little_endian(1 << 20, 4);
  for (std::size_t at = beyond.find(size); at != beyond.npos; at = beyond.find(size)) beyond.replace(at, 8, larger);
  CHECK(refusal(folder, beyond).starts_with("expected records within the zip file, found 1048576 bytes of \"a/data/0\" at byte "));
}

TEST_CASE("randomly damaged checkpoints are read or rejected") {
  const TemporaryFolder folder;
  const std::string small = torch_bytes(pickle_of(TensorBytes{}), {std::string(16, '\1')});
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string damaged = small;
    for (std::uint64_t changes = 1 + random() % 4; changes > 0; --changes) damaged[random() % damaged.size()] = static_cast<char>(random() % 2 == 0 ? random() : 0xff);
    CAPTURE(trial);
    refusal(folder, damaged);
  }
}

TEST_CASE("tensors that the format cannot store are not written") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "file.pth";
  write_file(path, "old");
  const Tensor x = zeros(Shape{1}, DType::Float32);
  const auto message = [&](const std::vector<NamedTensor>& tensors) { return error_text<FileError>([&] { write_torch_file(path, {{"MODEL", tensors}}); }); };
  CHECK(message({{"x", Tensor{}}}) == path.string() + ": expected a tensor x, found an undefined one");
  CHECK(message({{"x", x}, {"x", x}}) == path.string() + ": duplicate tensor name x");
  CHECK(read_file(path) == "old");
  CHECK(folder.count() == 1);
}

}  // namespace mblm::testing
