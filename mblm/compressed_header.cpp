#include "mblm/compressed_header.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "engine/build.h"
#include "engine/io/hash.h"
#include "mblm/model_hash.h"

namespace mblm {
namespace {

constexpr std::uint8_t magic[] = {0x8d, 'M', 'B', 'L'};
constexpr std::uint8_t version = 1;
constexpr std::size_t hash_at = 8, hash_size = 8;

std::string hexadecimal(std::uint64_t number) {
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[number >> shift & 15];
  return text;
}

std::string precision_name(std::uint8_t precision) { return precision == 0 ? "float32" : precision == 1 ? "bfloat16" : "float64"; }

class Writer {
 public:
  template <class T>
  void number(T value) {
    for (std::size_t i = 0; i < sizeof value; ++i) bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> 8 * i));
  }
  void text(const std::string& value) {
    require<ValueError>(value.size() <= 255, "compress: expected at most 255 characters, got ", value);
    number(static_cast<std::uint8_t>(value.size()));
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  std::vector<std::uint8_t> bytes;
};

class Reader {
 public:
  Reader(std::span<const std::uint8_t> bytes, const std::string& file) : bytes_(bytes), file_(file) {}
  template <class T>
  T number() {
    std::uint64_t value = 0;
    const auto bytes = take(sizeof(T));
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{bytes[i]} << 8 * i;
    return static_cast<T>(value);
  }
  std::string text() {
    const auto bytes = take(number<std::uint8_t>());
    return {bytes.begin(), bytes.end()};
  }
  std::span<const std::uint8_t> take(std::size_t count) {
    require<FileError>(count <= bytes_.size() - at_, file_, ": damaged: the file ends in its header");
    at_ += count;
    return bytes_.subspan(at_ - count, count);
  }
  std::size_t at() const { return at_; }

 private:
  std::span<const std::uint8_t> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
};

}  // namespace

PredictionBits PredictionBits::of(const Model& model) {
  PredictionBits bits;
  const ParameterStore& store = model.parameters();
  const Device device = store.values().device();
  const std::string hash = model_hash(model);
  std::from_chars(hash.data(), hash.data() + 16, bits.model, 16);
  Hash build;
  build.add(build_name(device));
  bits.build = build.short_digest();
  bits.precision = store.activation_dtype() == DType::BFloat16 ? 1 : store.activation_dtype() == DType::Float32 ? 0 : 2;
  bits.instructions = instruction_set();
  bits.device = device_model(device);
  return bits;
}

std::vector<std::uint8_t> CompressedHeader::bytes() const {
  Writer out;
  out.bytes.assign(std::begin(magic), std::end(magic));
  out.number(version);
  out.number(bits.precision);
  out.number(static_cast<std::uint16_t>(code_bytes.size()));
  out.number(file_hash);
  out.number(bits.model);
  out.number(bits.build);
  out.number(content_bytes);
  out.number(content_hash);
  out.text(bits.instructions);
  out.text(bits.device);
  for (std::size_t i = 0; i + 1 < code_bytes.size(); ++i) out.number(code_bytes[i]);
  return out.bytes;
}

std::uint64_t CompressedHeader::hash_of_file(std::uint64_t codes) const {
  std::vector<std::uint8_t> all = bytes();
  all.erase(all.begin() + hash_at, all.begin() + hash_at + hash_size);
  Hash hash;
  hash.add(all.data(), all.size());
  hash.add_sized(hexadecimal(codes));
  return hash.short_digest();
}

CompressedHeader CompressedHeader::read(std::span<const std::uint8_t> start, std::uint64_t file_bytes, const std::string& file) {
  Reader in(start, file);
  const bool is_ours = start.size() >= std::size(magic) && std::equal(std::begin(magic), std::end(magic), start.begin());
  require<FileError>(is_ours, file, ": expected a file that mblm compress wrote, found other content");
  in.take(std::size(magic));
  const auto found = in.number<std::uint8_t>();
  require<FileError>(found == version, file, ": expected version ", static_cast<int>(version), " of compressed files, found ", static_cast<int>(found));
  CompressedHeader header;
  header.bits.precision = in.number<std::uint8_t>();
  const auto streams = in.number<std::uint16_t>();
  require<FileError>(streams >= 1 && streams <= most_streams, file, ": damaged: expected 1 to ", most_streams, " streams, found ", streams);
  header.file_hash = in.number<std::uint64_t>();
  header.bits.model = in.number<std::uint64_t>();
  header.bits.build = in.number<std::uint64_t>();
  header.content_bytes = in.number<std::uint64_t>();
  header.content_hash = in.number<std::uint64_t>();
  header.bits.instructions = in.text();
  header.bits.device = in.text();
  std::uint64_t left = file_bytes - in.at() - 8 * (streams - 1u);
  for (unsigned i = 0; i + 1 < streams; ++i) {
    header.code_bytes.push_back(in.number<std::uint64_t>());
    require<FileError>(header.code_bytes.back() <= left, file, ": damaged: its streams are longer than the file");
    left -= header.code_bytes.back();
  }
  header.code_bytes.push_back(left);
  require<FileError>(header.content_bytes <= std::uint64_t{1} << 62, file, ": damaged: expected at most 2^62 bytes of content, found ", header.content_bytes);
  return header;
}

void CompressedHeader::check_bits(const PredictionBits& here, const std::string& file) const {
  std::string differences;
  const auto compare = [&](const char* what, const std::string& then, const std::string& now) {
    if (then != now) differences += concat_text(differences.empty() ? "" : "; ", what, ' ', shown_text(then), " instead of ", shown_text(now));
  };
  compare("model", hexadecimal(bits.model), hexadecimal(here.model));
  compare("precision", precision_name(bits.precision), precision_name(here.precision));
  compare("device", bits.device, here.device);
  compare("instruction set", bits.instructions, here.instructions);
  compare("build", hexadecimal(bits.build), hexadecimal(here.build));
  require<FileError>(differences.empty(), file, ": compressed with another ", differences);
}

}  // namespace mblm
