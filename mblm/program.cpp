#include "mblm/program.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/parallel.h"

namespace mblm {
namespace {

std::string read_all(std::istream& in, const std::string& name) {
  std::ostringstream bytes;
  if (in.peek() != std::istream::traits_type::eof()) bytes << in.rdbuf();
  require<FileError>(!in.bad() && !bytes.fail(), name, ": cannot be read");
  return std::move(bytes).str();
}

}  // namespace

void write_output(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EPIPE) throw BrokenPipe{};
    if (written < 0 && errno == EINTR) continue;
    require<FileError>(written >= 0, "standard output: cannot write: ", std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void write_note(std::string_view text) {
  const std::string line = concat_text("mblm: ", text, "\n");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());  // in one piece; nobody to tell if it fails
}

std::string read_input(const std::optional<std::string>& file) {
  if (!file) return read_all(std::cin, "standard input");
  require<FileError>(!std::filesystem::is_directory(*file), *file, ": expected a file, found a folder");
  std::ifstream in(*file, std::ios::binary);
  require<FileError>(in.is_open(), *file, ": cannot be read: ", std::strerror(errno));
  return read_all(in, *file);
}

std::filesystem::path model_file(const std::string& model) {
  const std::filesystem::path path(model);
  if (std::filesystem::is_directory(path)) {
    const std::filesystem::path best = path / "checkpoints" / "best.safetensors";
    require<FileError>(std::filesystem::exists(best), model, ": expected a run's folder, found no checkpoints/best.safetensors in it");
    return best;
  }
  require<FileError>(std::filesystem::exists(path), model, ": no such file or folder");
  require<FileError>(path.extension() == ".safetensors", model, ": expected a run's folder or a .safetensors file");
  return path;
}

Device open_device(const std::string& name, const ComputeOptions& options) {
  if (options.threads) set_thread_count(*options.threads);
  const std::string wanted = options.device.value_or(name);
  if (wanted == "cpu") return {};
  for (const std::string& reason : load_backends()) write_note(reason);
  Device device{DeviceKind::Cuda, wanted.rfind("cuda:", 0) == 0 ? std::stoi(wanted.substr(5)) : 0};
  for (const DeviceInfo& info : available_devices())
    if (info.device == device) return device;
  require<DeviceError>(wanted == "auto", "--device: expected a device of this machine (see mblm info devices), got ", wanted);
  return {};
}

std::unique_ptr<Model> open_model(const std::string& model, const ComputeOptions& options) {
  const std::filesystem::path file = model_file(model);
  return load_model(file, BlockRegistry(), open_device("auto", options));
}

}  // namespace mblm
