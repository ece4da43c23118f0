// Fuzzes the reader of pickles and of the tensors that they describe; `tools/fuzz` builds and runs it. Any bytes must be read
// or rejected with a FileError.
#include <cstdint>

#include "engine/io/torch_file.h"
#include "tests/fuzz_file.h"
#include "tests/torch_bytes.h"

using namespace mblm;
using namespace mblm::testing;

namespace {

constexpr std::int64_t largest_tensor = 1 << 16;  // elements; larger tensors are described but not read

void read_all(const std::filesystem::path& path) {
  const TorchFile file(path);
  file.number("LOSS");
  for (const TorchTensor& tensor : file.tensors("MODEL")) {
    if (tensor.shape.numel() > largest_tensor) continue;
    const Tensor read = file.read(tensor);
    std::vector<std::byte> copy(read.bytes() + 1);
    read.to_host(copy.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string file = torch_bytes(std::string(reinterpret_cast<const char*>(data), size), {std::string(256, '\x11'), "odd"});
  const MemoryFile memory(file.data(), file.size());
  try {
    read_all(memory.path());
  } catch (const FileError&) {
  }
  return 0;
}
