#include "mblm/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>

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
  require<FileError>(checkpoint.tensors.emplace(current, std::move(tensor)).second, checkpoint.path.string(), ": duplicate parameter ",
                     shown_text(current), ", stored under two names");
}

// Parses the loss in a file's metadata. Returns nothing unless it is a finite number.
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

// Converts a floating tensor of a file to the element type of `like`.
Tensor as_type_of(const Tensor& like, const Tensor& stored, const std::string& where) {
  require<FileError>(is_floating(stored.dtype()), where, ": expected floating elements, got ", stored.dtype());
  if (stored.dtype() == like.dtype()) return stored;
  return visit_dtype(like.dtype(), [&]<class T>() { return from_values<T>(stored.shape(), stored.to_vector_as<T>()); });
}

// Whether a parameter has one row per id of the vocabulary.
bool has_rows_of_ids(const std::string& name) {
  return name.starts_with("to_logits.") || (name.starts_with("token_embs_rev.") && name.ends_with(".embedding.weight"));
}

// The part of `target` that a tensor of the file fills: the whole tensor, or its first rows.
Tensor destination(const NamedTensor& target, const Shape& stored, LoadOptions options, const std::string& where) {
  const Shape& wanted = target.tensor.shape();
  const bool fewer_rows = options.extend_embeddings && has_rows_of_ids(target.name) && stored.rank() == wanted.rank() && stored[0] < wanted[0];
  require<FileError>(stored == (fewer_rows ? wanted.with(0, stored[0]) : wanted), where, ": expected shape ", wanted, ", got ", stored);
  return fewer_rows ? target.tensor.slice(0, stored[0]) : target.tensor;
}

// Returns the file itself, or the best checkpoint of a run folder.
std::filesystem::path find_checkpoint(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    const std::filesystem::path best = path / "checkpoints" / "best.safetensors";
    require<FileError>(std::filesystem::exists(best), path.string(), ": expected a run folder, checkpoints/best.safetensors is missing");
    return best;
  }
  require<FileError>(std::filesystem::exists(path), path.string(), ": no such file or folder");
  require<FileError>(path.extension() == ".safetensors" || path.extension() == ".pth", path.string(),
                     ": expected a run folder, a .safetensors or a .pth file");
  return path;
}

}  // namespace

CheckpointFile open_checkpoint(const std::filesystem::path& path, const Renames& renames) {
  if (path.extension() == ".pth") return open_package(path, renames);
  require<FileError>(path.extension() == ".safetensors", path.string(), ": expected a .safetensors or .pth checkpoint");
  return open_safetensors(path, renames);
}

void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::string> all = metadata;
  all[config_metadata_key] = to_yaml(model.config());
  write_safetensors(path, model.parameters().named_values(), all);
}

void load_parameters(Model& model, const CheckpointFile& file, LoadOptions options) {
  std::map<std::string, StoredTensor> unknown = file.tensors;
  const auto& constants = model.parameters().constants();
  std::vector<std::pair<Tensor, Tensor>> copies;  // checks every tensor before it changes the model
  for (const NamedTensor& target : model.parameters().named_values()) {
    const std::string where = file.path.string() + ": " + target.name;
    const bool is_constant = std::any_of(constants.begin(), constants.end(), [&](const auto& c) { return c->name() == target.name; });
    const auto stored = file.tensors.find(target.name);
    unknown.erase(target.name);
    if (is_constant && stored == file.tensors.end()) continue;
    require<FileError>(stored != file.tensors.end(), where, ": the file does not contain this tensor of the model");
    const Tensor to = destination(target, stored->second.shape, options, where);
    if (!is_constant) copies.emplace_back(to, as_type_of(to, stored->second.read(), where));
  }
  require<FileError>(unknown.empty(), file.path.string(), ": ", unknown.empty() ? "" : shown_text(unknown.begin()->first), ": the model has no such parameter");
  for (auto& [to, from] : copies) to.from_host(from.host_bytes().data());
  model.parameters().values_changed();
}

void load_parameters(Model& model, const std::filesystem::path& path) { load_parameters(model, open_checkpoint(path)); }

ModelFile open_model(const std::filesystem::path& path, const BlockRegistry& registry, const std::optional<std::filesystem::path>& config) {
  CheckpointFile file = open_checkpoint(find_checkpoint(path));
  require<FileError>(config || file.config, file.path.string(), ": expected a model config in the file's metadata, there is none; give it with --config");
  ModelConfig model = config ? read_model_config(*config, registry) : parse_model_config(*file.config, file.path.string(), registry);
  return {std::move(file), std::move(model)};
}

std::unique_ptr<Model> load_model(const ModelFile& opened, Device device, DType precision) {
  auto model = std::make_unique<Model>(opened.config);
  model->allocate(device, precision);
  load_parameters(*model, opened.file);
  return model;
}

std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device, DType precision) {
  return load_model(open_model(path, registry), device, precision);
}

}  // namespace mblm
