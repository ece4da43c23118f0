// PyTorch checkpoints built byte by byte, as other programs or attackers may write them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mblm::testing {

// The number as `bytes` little-endian bytes.
inline std::string little_endian(std::uint64_t value, std::size_t bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>(i < 8 ? value >> (8 * i) : 0);
  return out;
}

// Parts of a pickle.
inline std::string pickle_text(const std::string& text) { return "X" + little_endian(text.size(), 4) + text; }
inline std::string pickle_integer(std::int64_t value) { return "\x8a\x08" + little_endian(static_cast<std::uint64_t>(value), 8); }
inline std::string pickle_global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
inline std::string pickle_tuple(const std::string& items) { return "(" + items + "t"; }
inline std::string pickle_integers(const std::vector<std::int64_t>& values) {
  std::string items;
  for (const std::int64_t value : values) items += pickle_integer(value);
  return pickle_tuple(items);
}
inline std::string pickle_file(const std::string& value) { return "\x80\x02" + value + "."; }

// A tensor as torch.save describes it, with all parts variable.
struct TensorBytes {
  std::string storage = "FloatStorage", key = "0";
  std::int64_t elements = 4, offset = 0;
  std::vector<std::int64_t> sizes{2, 2}, strides{2, 1};

  std::string pickle() const {
    const std::string id = pickle_tuple(pickle_text("storage") + pickle_global("torch", storage) + pickle_text(key) + pickle_text("cpu") +
                                        pickle_integer(elements)) + "Q";
    return pickle_global("torch._utils", "_rebuild_tensor_v2") +
           pickle_tuple(id + pickle_integer(offset) + pickle_integers(sizes) + pickle_integers(strides) + "\x89" +
                        pickle_global("collections", "OrderedDict") + ")R") + "R";
  }
};

// The pickle of {"MODEL": {"x": tensor}}.
inline std::string pickle_of(const TensorBytes& tensor) {
  return pickle_file("}" + pickle_text("MODEL") + "}" + pickle_text("x") + tensor.pickle() + "ss");
}

struct ZipEntry {
  std::string name, content;
  int method = 0;  // 0: stored
  int flags = 0;
};

// A zip file without checksums, which readers ignore.
inline std::string zip_bytes(const std::vector<ZipEntry>& entries) {
  std::string out, directory;
  for (const ZipEntry& entry : entries) {
    const std::string size = little_endian(entry.content.size(), 4);
    const std::string fields = little_endian(20, 2) + little_endian(static_cast<std::uint64_t>(entry.flags), 2) +
                               little_endian(static_cast<std::uint64_t>(entry.method), 2) + little_endian(0, 8) + size + size +
                               little_endian(entry.name.size(), 2) + little_endian(0, 2);
    directory += "PK\1\2" + little_endian(20, 2) + fields + little_endian(0, 10) + little_endian(out.size(), 4) + entry.name;
    out += "PK\3\4" + fields + entry.name + entry.content;
  }
  const std::string count = little_endian(entries.size(), 2);
  return out + directory + "PK\5\6" + little_endian(0, 4) + count + count + little_endian(directory.size(), 4) + little_endian(out.size(), 4) +
         little_endian(0, 2);
}

// A file in the form that torch.load reads: a pickle and the storages data/0, data/1, ...
inline std::string torch_bytes(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipEntry> entries{{"archive/data.pkl", pickle}};
  for (const std::string& storage : storages) entries.push_back({"archive/data/" + std::to_string(entries.size() - 1), storage});
  return zip_bytes(entries);
}

}  // namespace mblm::testing
