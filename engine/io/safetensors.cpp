#include "engine/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "engine/io/checksum.h"
#include "engine/io/float16.h"

namespace mblm {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are used without conversion, and the file is little-endian");

constexpr std::size_t length_bytes = sizeof(std::uint64_t);  // of the length, which precedes the header

// Returns the text of the header after checking its length against the file.
std::string_view header_text(const std::string& path, const MappedFile& file) {
  require<FileError>(file.size() >= length_bytes, path, ": expected a safetensors file, found only ", file.size(), " bytes");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), length_bytes);
  require<FileError>(length <= safetensors_header_limit, path, ": expected a safetensors header of at most ", safetensors_header_limit,
                     " bytes, found a length of ", length);
  require<FileError>(length <= file.size() - length_bytes, path, ": expected a header of ", length, " bytes, found ", file.size() - length_bytes,
                     " bytes until the end of the file");
  return {reinterpret_cast<const char*>(file.data()) + length_bytes, static_cast<std::size_t>(length)};
}

// Quotes and escapes text for JSON. Throws FileError for text that is not UTF-8.
std::string json_text(const std::string& path, const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw FileError(concat_text(path, ": expected names and metadata in UTF-8, found invalid bytes"));
  }
}

std::string metadata_text(const std::string& path, const std::map<std::string, std::string>& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata) text += concat_text(text.empty() ? "{" : ",", json_text(path, key), ":", json_text(path, value));
  return text.empty() ? "{}" : text + "}";
}

// The header, padded with spaces to a multiple of eight bytes, so that the elements are aligned.
std::string make_header(const std::string& path, const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) text += concat_text('"', safetensors_metadata_key, "\":", metadata_text(path, metadata));
  std::set<std::string_view> names{safetensors_metadata_key};
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require<FileError>(tensor.defined(), path, ": expected a tensor ", name, ", found an undefined one");
    require<FileError>(names.insert(name).second, path, ": duplicate tensor name ", name);
    const std::size_t end = offset + tensor.bytes();
    const std::vector<std::int64_t> sizes(tensor.shape().begin(), tensor.shape().end());
    const nlohmann::ordered_json entry = {{"dtype", safetensors_dtype(tensor.dtype())}, {"shape", sizes}, {"data_offsets", {offset, end}}};
    text += concat_text(text.size() == 1 ? "" : ",", json_text(path, name), ":", entry.dump());
    offset = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  require<FileError>(text.size() <= safetensors_header_limit, path, ": expected a header of at most ", safetensors_header_limit, " bytes, found ",
                     text.size());
  return text;
}

void write_elements(AtomicFile& file, const Tensor& tensor) {
  const Tensor host = to_device(tensor, Device{});
  file.write(host.host_bytes().data(), host.bytes());
}

constexpr const char* checksum_key = "checksum";

std::string checksum_of(const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  Checksum sum;
  for (const NamedTensor& named : tensors) {
    sum.add(concat_text(named.name, " ", named.tensor.dtype(), " ", named.tensor.shape()));
    const Tensor host = to_device(named.tensor, Device{});
    sum.add(host.host_bytes().data(), host.bytes());
  }
  for (const auto& [key, value] : metadata)
    if (key != checksum_key) sum.add(concat_text(key, "=", value));
  return sum.text();
}

// Widens float16 elements, which may be misaligned.
void copy_float16(const std::byte* from, Tensor& to) {
  float* const out = to.host_data<float>();
  for (std::int64_t i = 0; i < to.numel(); ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, from + static_cast<std::size_t>(i) * sizeof half, sizeof half);
    out[i] = float_of_float16(half);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  const auto file = std::make_shared<const MappedFile>(path);
  const std::string_view text = header_text(path.string(), *file);
  data_begin_ = length_bytes + text.size();
  header_ = parse_safetensors_header(path.string(), text, file->size() - data_begin_);
  for (const auto& [name, entry] : header_.tensors) names_.push_back(name);
  // The mapping is read-only, which Storage cannot express.
  contents_ = std::make_shared<Storage>(const_cast<std::byte*>(file->data()), file->size(), file);
}

const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  require<FileError>(found != header_.tensors.end(), path_.string(), ": there is no tensor ", name);
  return found->second;
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const SafetensorsEntry& stored = entry(name);
  const std::size_t begin = data_begin_ + stored.begin;
  if (!stored.is_float16 && begin % size_of(stored.dtype) == 0) return Tensor(contents_, begin, stored.shape, stored.dtype);
  Tensor copy = empty(stored.shape, stored.dtype);
  const std::byte* const first = static_cast<const std::byte*>(contents_->data()) + begin;
  if (stored.is_float16) copy_float16(first, copy);
  else copy.from_host(first);
  return copy;
}

void SafetensorsFile::check() const {
  const auto expected = metadata().find(checksum_key);
  require<FileError>(expected != metadata().end(), path_.string(), ": expected an entry ", checksum_key, " in the metadata, there is none");
  std::vector<NamedTensor> tensors;
  for (const std::string& name : names_) tensors.push_back({name, tensor(name)});
  const std::string found = checksum_of(tensors, metadata());
  require<FileError>(found == expected->second, path_.string(), ": damaged: expected checksum ", shown_text(expected->second), ", found ", found);
}

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = make_header(path.string(), tensors, metadata);
  const std::uint64_t length = header.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const NamedTensor& named : tensors) write_elements(file, named.tensor);
  file.commit();
}

void write_checked_safetensors(const std::filesystem::path& path, std::vector<NamedTensor> tensors, std::map<std::string, std::string> metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; });
  metadata[checksum_key] = checksum_of(tensors, metadata);
  write_safetensors(path, tensors, metadata);
}

}  // namespace mblm
