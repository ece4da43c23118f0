// Fuzzing the reader of YAML: `tools/fuzz` builds and runs it. Whatever the bytes, they are read or refused with a ConfigError,
// and what is read is the same after it is written and read again.
#include <cstdint>
#include <cstdlib>

#include "engine/error.h"
#include "mblm/yaml.h"

using namespace mblm;

namespace {

// A key of a line has at most 1024 characters in YAML, escapes of up to 6 each included.
constexpr std::size_t longest_key = 160;

bool has_long_key(const YamlValue& value) {
  for (const std::string& key : value.keys)
    if (key.size() > longest_key) return true;
  for (const YamlValue& item : value.items)
    if (has_long_key(item)) return true;
  return false;
}

bool is_same(const YamlValue& a, const YamlValue& b) {
  if (a.kind != b.kind || a.text != b.text || a.keys != b.keys || a.items.size() != b.items.size()) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!is_same(a.items[i], b.items[i])) return false;
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  YamlValue value;
  try {
    value = parse_yaml(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const ConfigError&) {
    return 0;
  }
  if (has_long_key(value)) return 0;
  if (!is_same(parse_yaml(write_yaml(value), "written"), value)) std::abort();
  return 0;
}
