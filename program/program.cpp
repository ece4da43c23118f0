#include "program/program.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/io/file.h"
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
  if (write_all(STDOUT_FILENO, text.data(), text.size()) == text.size()) return;
  if (errno == EPIPE) throw BrokenPipe{};
  throw_file_error("standard output", "cannot write");
}

void write_note(std::string_view text) {
  std::string line = concat_text("mblm: ", text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
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
  require<FileError>(path.extension() == ".safetensors" || path.extension() == ".pth", model,
                     ": expected a run's folder, a .safetensors or a .pth file");
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

OpenCheckpoint open_checkpoint(const ModelArgument& argument) {
  CheckpointFile file = open_checkpoint(model_file(argument.model));
  if (argument.config) return {std::move(file), read_model_config(*argument.config, BlockRegistry())};
  require<FileError>(file.config.has_value(), file.path.string(), ": expected the model's config in the file's metadata, found none; give --config");
  ModelConfig config = checkpoint_config(file, BlockRegistry());
  return {std::move(file), std::move(config)};
}

std::unique_ptr<Model> open_model(const ModelArgument& argument, const ComputeOptions& options) {
  const OpenCheckpoint checkpoint = open_checkpoint(argument);
  const Device device = open_device("auto", options);
  return load_model(checkpoint.file, checkpoint.config, device, precision_named(options.precision, device));
}

}  // namespace mblm
