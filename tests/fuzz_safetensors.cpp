// Fuzzes the reader of safetensors files; `tools/fuzz` builds and runs it. Any bytes must be read or rejected with a FileError.
#include <cstdint>

#include "engine/io/safetensors.h"
#include "tests/fuzz_file.h"

using namespace mblm;
using namespace mblm::testing;

namespace {

void read_all(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  for (const std::string& name : file.names()) {
    const Tensor tensor = file.tensor(name);
    std::vector<std::byte> copy(tensor.bytes() + 1);
    tensor.to_host(copy.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile memory(data, size);
  try {
    read_all(memory.path());
  } catch (const FileError&) {
  }
  return 0;
}
