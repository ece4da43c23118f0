#include "mblm/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <tuple>

#include "engine/error.h"
#include "engine/io/folder.h"
#include "engine/io/safetensors.h"
#include "engine/io/torch_file.h"
#include "mblm/config/field_rules.h"
#include "mblm/package_checkpoint.h"

namespace mblm {
namespace {

std::string renamed(const std::string& name, const Renames& renames) {
  for (const auto& [from, to] : renames)
    if (name.starts_with(from)) return to + name.substr(from.size());
  return name;
}

using NamedStored = std::vector<std::pair<std::string, StoredTensor>>;

// The modules of a model. No wrapper has these names.
bool is_module_of_model(std::string_view name) {
  constexpr std::string_view modules[] = {"start_tokens", "pos_embs", "token_embs_rev", "stage_models", "to_next_stage_proj", "to_logits"};
  return std::find(std::begin(modules), std::end(modules), name) != std::end(modules);
}

// Removes the part before the first dot while all names share it: `module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of a
// class that contains the model, also several of them.
void remove_shared_prefixes(NamedStored& tensors) {
  // torch.optim.swa_utils.AveragedModel adds the number of averaged steps, which is not a tensor of the model.
  std::erase_if(tensors, [](const auto& tensor) { return tensor.first == "n_averaged"; });
  while (!tensors.empty()) {
    const std::size_t dot = tensors.front().first.find('.');
    if (dot == std::string::npos || is_module_of_model(std::string_view(tensors.front().first).substr(0, dot))) return;
    const std::string prefix = tensors.front().first.substr(0, dot + 1);
    if (!std::all_of(tensors.begin(), tensors.end(), [&](const auto& tensor) { return tensor.first.starts_with(prefix); })) return;
    for (auto& [name, tensor] : tensors) name.erase(0, prefix.size());
  }
}

void add_tensors(CheckpointFile& checkpoint, const Renames& renames, NamedStored tensors) {
  for (auto& [name, tensor] : tensors) name = renamed(name, renames);
  remove_shared_prefixes(tensors);
  for (auto& [name, tensor] : tensors) {
    const std::string current = current_name(name);
    require<FileError>(checkpoint.tensors.emplace(current, std::move(tensor)).second, checkpoint.path.string(), ": duplicate parameter ",
                       shown_text(current), ", stored under two names");
  }
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
  NamedStored tensors;
  for (const std::string& name : file->names()) tensors.push_back({name, {file->shape(name), [file, name] { return file->tensor(name); }}});
  add_tensors(checkpoint, renames, std::move(tensors));
  const auto& metadata = file->metadata();
  if (const auto config = metadata.find(config_metadata_key); config != metadata.end()) checkpoint.config = config->second;
  if (const auto loss = metadata.find(loss_metadata_key); loss != metadata.end()) checkpoint.loss = parse_loss(loss->second);
  return checkpoint;
}

// The tensors of the package's MODEL, of the keys that training programs commonly use, or at the top of the file.
std::vector<TorchTensor> find_tensors(const TorchFile& file) {
  for (const char* key : {package_model_key, "state_dict", "model_state_dict", "model"})
    if (file.has_tensors(key)) return file.tensors(key);
  std::vector<TorchTensor> tensors = file.top_tensors();
  const std::vector<std::string> keys = file.keys();
  require<FileError>(!tensors.empty(), file.path().string(), ": expected tensors at the top, or a dict of tensors under \"", package_model_key,
                     "\", \"state_dict\", \"model_state_dict\" or \"model\", found ",
                     keys.empty() ? "none" : concat_text("none of them, the first key is ", shown_text(keys.front())));
  return tensors;
}

CheckpointFile open_package(const std::filesystem::path& path, const Renames& renames) {
  const auto file = std::make_shared<const TorchFile>(path);
  CheckpointFile checkpoint{.path = path, .tensors = {}, .config = {}, .loss = file->number(package_loss_key)};
  if (checkpoint.loss && !std::isfinite(*checkpoint.loss)) checkpoint.loss.reset();
  NamedStored tensors;
  for (const TorchTensor& tensor : find_tensors(*file)) tensors.push_back({tensor.name, {tensor.shape, [file, tensor] { return file->read(tensor); }}});
  add_tensors(checkpoint, renames, std::move(tensors));
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

// `, the nearest name in WHERE is NAME`, or nothing if no name is near. A name with a prefix is nearer than one with other letters.
std::string near_name(const std::string& name, const std::vector<std::string>& names, const char* where) {
  const auto extends = [&](const std::string& other) { return other.ends_with("." + name) || name.ends_with("." + other); };
  const auto found = std::find_if(names.begin(), names.end(), extends);
  const std::string near = found != names.end() ? *found : closest_name(name, names);
  return near.empty() ? "" : concat_text(", the nearest name in ", where, " is ", shown_text(near));
}

// The names of Mamba-1 and Mamba-2 mixers differ. A config without block_type means Mamba-2.
void check_mamba(const ModelConfig& config, const CheckpointFile& file) {
  for (int n = 0; n < config.stages(); ++n) {
    const std::string mixer = concat_text("stage_models.", n, ".layers.0.mixer.");
    const std::string_view type = config.blocks[static_cast<std::size_t>(n)]->type();
    const bool is_mamba1 = file.tensors.count(mixer + "x_proj.weight") != 0, is_mamba2 = file.tensors.count(mixer + "dt_bias") != 0;
    for (const auto& [expected, stored, here] : {std::tuple("mamba2", "Mamba-1", is_mamba1), std::tuple("mamba1", "Mamba-2", is_mamba2)})
      require<FileError>(type != expected || !here, file.path.string(), ": stage ", n, ": these are ", stored, " weights, set block_type: ",
                         is_mamba1 ? "mamba1" : "mamba2", " in the config's block of the stage");
  }
}

// Names that people give to files of torch.save.
bool is_torch_name(const std::filesystem::path& path) { return path.extension() == ".pth" || path.extension() == ".pt" || path.extension() == ".ckpt"; }

// Returns the file itself, or the best checkpoint of a run folder, or its last one if no validation chose a best one.
std::filesystem::path find_checkpoint(const std::filesystem::path& path) {
  if (is_folder(path)) {
    for (const char* name : {"best.safetensors", "last.safetensors"})
      if (path_exists(path / "checkpoints" / name)) return path / "checkpoints" / name;
    throw FileError(path.string() + ": expected a run folder, checkpoints/best.safetensors is missing");
  }
  require<FileError>(path_exists(path), path.string(), ": no such file or folder");
  require<FileError>(path.extension() == ".safetensors" || is_torch_name(path), path.string(), ": expected a run folder, a .safetensors or a .pth file");
  return path;
}

}  // namespace

CheckpointFile open_checkpoint(const std::filesystem::path& path, const Renames& renames) {
  if (is_torch_name(path)) return open_package(path, renames);
  require<FileError>(path.extension() == ".safetensors", path.string(), ": expected a .safetensors or .pth checkpoint");
  return open_safetensors(path, renames);
}

void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::string> all = metadata;
  all[config_metadata_key] = to_yaml(model.config());
  write_safetensors(path, model.parameters().named_values(), all);
}

void load_parameters(Model& model, const CheckpointFile& file, LoadOptions options) {
  check_mamba(model.config(), file);
  const auto& constants = model.parameters().constants();
  const std::vector<NamedTensor> targets = model.parameters().named_values();
  std::vector<std::string> known, unknown;  // names of the model, names of the file that the model does not have
  for (const NamedTensor& target : targets) known.push_back(target.name);
  for (const auto& [name, tensor] : file.tensors)
    if (std::find(known.begin(), known.end(), name) == known.end()) unknown.push_back(name);
  std::vector<std::pair<Tensor, Tensor>> copies;  // checks every tensor before it changes the model
  std::vector<NamedTensor> constant_values;
  for (const NamedTensor& target : targets) {
    const std::string where = file.path.string() + ": " + target.name;
    const bool is_constant = std::any_of(constants.begin(), constants.end(), [&](const auto& c) { return c->name() == target.name; });
    const auto stored = file.tensors.find(target.name);
    if (is_constant && stored == file.tensors.end()) continue;
    require<FileError>(stored != file.tensors.end(), where, ": the file does not contain this tensor of the model",
                       stored != file.tensors.end() ? "" : near_name(target.name, unknown, "the file"));
    const Tensor to = destination(target, stored->second.shape, options, where);
    const Tensor from = as_type_of(to, stored->second.read(), where);
    if (is_constant) constant_values.push_back({target.name, from});
    else copies.emplace_back(to, from);
  }
  if (!unknown.empty())
    throw FileError(concat_text(file.path.string(), ": ", shown_text(unknown.front()), ": the model has no such parameter",
                                near_name(unknown.front(), known, "the model")));
  for (const NamedTensor& constant : constant_values) model.parameters().set_constant(constant.name, constant.tensor);
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

std::unique_ptr<Model> load_model(const ModelFile& opened, Device device, DType precision, Gradients gradients) {
  auto model = std::make_unique<Model>(opened.config);
  model->allocate(device, precision, gradients);
  load_parameters(*model, opened.file);
  return model;
}

std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device, DType precision, Gradients gradients) {
  return load_model(open_model(path, registry), device, precision, gradients);
}

}  // namespace mblm
