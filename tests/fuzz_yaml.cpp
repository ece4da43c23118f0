// Fuzzes the YAML reader; `tools/fuzz` builds and runs it. Any bytes must be read or rejected with a ConfigError, and writing and
// reading a value again must not change it.
#include <cstdint>
#include <cstdlib>

#include "engine/error.h"
#include "mblm/config/yaml.h"

using namespace mblm;

namespace {

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
  if (!is_same(parse_yaml(write_yaml(value), "written"), value)) std::abort();
  return 0;
}
