#include "engine/io/torch_file.h"

#include <algorithm>
#include <bit>
#include <set>

#include "engine/error.h"
#include "engine/io/mapped_file.h"
#include "engine/io/torch_pickle.h"
#include "engine/io/zip_writer.h"

namespace mblm {
namespace {

using Kind = PickleValue::Kind;

static_assert(std::endian::native == std::endian::little, "elements are used without conversion, and the file is little-endian");

constexpr const char* pickle_record = "data.pkl";
constexpr const char* order_record = "byteorder";
constexpr std::string_view legacy_start = "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.";  // a pickled magic number

// Returns the folder that contains all records of the zip file. Its name is arbitrary.
std::string find_prefix(const std::string& path, const std::map<std::string, ZipRecord>& records) {
  for (const auto& [name, record] : records) {
    const std::size_t folder = name.find('/');
    if (folder != name.npos && name.substr(folder + 1) == pickle_record) return name.substr(0, folder + 1);
  }
  throw FileError(concat_text(path, ": expected a zip file with a record ", pickle_record, ", as torch.save writes it, found no such record"));
}

void check_entry(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    require<FileError>(tensor.defined(), path, ": expected a tensor ", name, ", found an undefined one");
    require<FileError>(names.insert(name).second, path, ": duplicate tensor name ", name);
  }
}

}  // namespace

TorchFile::TorchFile(const std::filesystem::path& path) : path_(path) {
  const auto file = std::make_shared<const MappedFile>(path);
  // The mapping is read-only, which Storage cannot express.
  contents_ = std::make_shared<Storage>(const_cast<std::byte*>(file->data()), file->size(), file);
  const std::string_view start{reinterpret_cast<const char*>(file->data()), std::min(file->size(), legacy_start.size())};
  require<FileError>(start != legacy_start, path.string(), ": expected a zip file, as torch.save writes it since PyTorch 1.6, found the older format; ",
                     "convert it with torch.load and torch.save of a newer PyTorch");
  records_ = list_zip_records(path.string(), {file->data(), file->size()});
  prefix_ = find_prefix(path.string(), records_);
  if (records_.count(prefix_ + order_record) != 0) {
    const std::string_view order = record_text(order_record);
    require<FileError>(order == "little", path.string(), ": expected byte order little, found ", shown_text(order));
  }
  document_ = parse_pickle(path.string(), record_text(pickle_record), torch_globals());
  require<FileError>(document_.root->kind == Kind::Dict, path.string(), ": expected a dict, found something else");
}

std::string_view TorchFile::record_text(const std::string& name) const {
  const ZipRecord& record = records_.at(prefix_ + name);
  require<FileError>(record.stored, path_.string(), ": expected record ", name, " to be uncompressed, found it compressed or encrypted");
  return {static_cast<const char*>(contents_->data()) + record.begin, record.bytes};
}

// Returns the last of equal keys, as Python does.
const PickleValue* TorchFile::find(const std::string& key) const {
  const auto& items = document_.root->items;
  for (std::size_t i = items.size(); i >= 2; i -= 2)
    if (items[i - 2]->kind == Kind::Text && items[i - 2]->text == key) return items[i - 1];
  return nullptr;
}

std::optional<double> TorchFile::number(const std::string& key) const {
  const PickleValue* const value = find(key);
  if (value != nullptr && value->kind == Kind::Real) return value->real;
  if (value != nullptr && value->kind == Kind::Integer) return static_cast<double>(value->integer);
  return {};
}

std::vector<TorchTensor> TorchFile::tensors(const std::string& key) const {
  const PickleValue* const dict = find(key);
  require<FileError>(dict != nullptr && dict->kind == Kind::Dict, path_.string(), ": expected a dict of tensors under ", shown_text(key), ", found ",
                     dict == nullptr ? "none" : "something else");
  return described(*dict, false);
}

bool TorchFile::has_tensors(const std::string& key) const {
  const PickleValue* const dict = find(key);
  if (dict == nullptr || dict->kind != Kind::Dict) return false;
  for (std::size_t i = 1; i < dict->items.size(); i += 2)
    if (is_torch_tensor(*dict->items[i])) return true;
  return false;
}

std::vector<TorchTensor> TorchFile::top_tensors() const { return described(*document_.root, true); }

std::vector<std::string> TorchFile::keys() const {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < document_.root->items.size(); i += 2)
    if (document_.root->items[i]->kind == Kind::Text) keys.push_back(document_.root->items[i]->text);
  return keys;
}

std::vector<TorchTensor> TorchFile::described(const PickleValue& dict, bool skips_others) const {
  std::vector<TorchTensor> tensors;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleValue& name = *dict.items[i];
    if (skips_others && (name.kind != Kind::Text || !is_torch_tensor(*dict.items[i + 1]))) continue;
    require<FileError>(name.kind == Kind::Text, path_.string(), ": expected strings as tensor names, found something else");
    require<FileError>(names.insert(name.text).second, path_.string(), ": expected unique tensor names, found duplicate name ", shown_text(name.text));
    tensors.push_back(describe_torch_tensor(path_.string(), name.text, *dict.items[i + 1], records_, prefix_));
  }
  return tensors;
}

void write_torch_file(const std::filesystem::path& path, const std::vector<TorchEntry>& entries) {
  const std::string folder = "archive/";
  std::vector<Tensor> storages;  // storage n is record data/n
  PickleWriter pickle;
  for (const TorchEntry& entry : entries) {
    if (const double* number = std::get_if<double>(&entry.value)) {
      pickle.add(entry.key, *number);
      continue;
    }
    const auto& tensors = std::get<std::vector<NamedTensor>>(entry.value);
    check_entry(path.string(), tensors);
    pickle.add(entry.key, tensors, storages.size());
    for (const NamedTensor& named : tensors) storages.push_back(named.tensor);
  }
  AtomicFile file(path);
  ZipWriter zip(file);
  const auto add_text = [&](const char* name, const std::string& text) { zip.add(folder + name, text.data(), text.size()); };
  add_text(pickle_record, pickle.finish());
  add_text(order_record, "little");
  for (std::size_t n = 0; n < storages.size(); ++n) {
    const Tensor host = to_device(storages[n], Device{});
    zip.add(folder + "data/" + std::to_string(n), host.host_bytes().data(), host.bytes());
  }
  add_text("version", "3\n");
  zip.finish();
  file.commit();
}

}  // namespace mblm
