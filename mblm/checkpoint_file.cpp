#include "mblm/checkpoint_file.h"

#include <charconv>
#include <cmath>
#include <memory>

#include "engine/error.h"
#include "engine/io/safetensors.h"
#include "engine/io/torch_file.h"
#include "mblm/package_checkpoint.h"

namespace mblm {
namespace {

std::string renamed(const std::string& name, const Renames& renames) {
  for (const auto& [from, to] : renames)
    if (name.starts_with(from)) return to + name.substr(from.size());
  return name;
}

void add_tensor(CheckpointFile& checkpoint, const Renames& renames, const std::string& name, StoredTensor tensor) {
  const std::string current = current_name(renamed(name, renames));
  require<FileError>(checkpoint.tensors.emplace(current, std::move(tensor)).second, checkpoint.path.string(), ": expected each parameter once, found ",
                     shown_text(current), " under two names");
}

// As the metadata of a file has it.
std::optional<double> parse_loss(const std::string& text) {
  double loss = 0;
  const bool ok = std::from_chars(text.data(), text.data() + text.size(), loss).ec == std::errc();
  return ok && std::isfinite(loss) ? std::optional(loss) : std::nullopt;
}

CheckpointFile open_safetensors(const std::filesystem::path& path, const Renames& renames) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  CheckpointFile checkpoint{.path = path, .tensors = {}, .config = {}, .loss = {}};
  for (const std::string& name : file->names())
    add_tensor(checkpoint, renames, name, {file->shape(name), [file, name] { return file->tensor(name); }});
  const auto& metadata = file->metadata();
  if (const auto config = metadata.find(config_metadata_key); config != metadata.end()) checkpoint.config = config->second;
  if (const auto loss = metadata.find(loss_metadata_key); loss != metadata.end()) checkpoint.loss = parse_loss(loss->second);
  return checkpoint;
}

CheckpointFile open_package(const std::filesystem::path& path, const Renames& renames) {
  const auto file = std::make_shared<const TorchFile>(path);
  CheckpointFile checkpoint{.path = path, .tensors = {}, .config = {}, .loss = file->number(package_loss_key)};
  if (checkpoint.loss && !std::isfinite(*checkpoint.loss)) checkpoint.loss.reset();
  for (const TorchTensor& tensor : file->tensors(package_model_key))
    add_tensor(checkpoint, renames, tensor.name, {tensor.shape, [file, tensor] { return file->read(tensor); }});
  return checkpoint;
}

}  // namespace

CheckpointFile open_checkpoint(const std::filesystem::path& path, const Renames& renames) {
  if (path.extension() == ".pth") return open_package(path, renames);
  require<FileError>(path.extension() == ".safetensors", path.string(), ": expected a checkpoint, a .safetensors or .pth file");
  return open_safetensors(path, renames);
}

}  // namespace mblm
