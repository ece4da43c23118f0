// Models in files: parameters under their names, the config in the metadata.
#include <algorithm>
#include <map>
#include <utility>

#include "engine/io/safetensors.h"
#include "mblm/model.h"

namespace mblm {
namespace {

// The elements of a floating tensor of a file, as float32 or float64 like `like`.
Tensor as_type_of(const Tensor& like, const Tensor& stored, const std::string& where) {
  if (stored.dtype() == like.dtype()) return stored;
  std::vector<double> values;
  const auto read = [&]<class T>() {
    for (const T value : stored.to_vector<T>()) {
      if constexpr (std::is_same_v<T, bfloat16>) values.push_back(static_cast<float>(value));
      else values.push_back(static_cast<double>(value));
    }
  };
  switch (stored.dtype()) {
    case DType::Float32: read.operator()<float>(); break;
    case DType::Float64: read.operator()<double>(); break;
    case DType::BFloat16: read.operator()<bfloat16>(); break;
    default: throw FileError(concat_text(where, ": expected floating elements, got ", stored.dtype()));
  }
  if (like.dtype() == DType::Float64) return from_values<double>(stored.shape(), values);
  return from_values<float>(stored.shape(), std::vector<float>(values.begin(), values.end()));
}

// Parameters with a row per id of the vocabulary.
bool has_rows_of_ids(const std::string& name) {
  return name.starts_with("to_logits.") || (name.starts_with("token_embs_rev.") && name.ends_with(".embedding.weight"));
}

// Where the elements of a tensor of the file go: the whole of `target`, or its first rows.
Tensor destination(const NamedTensor& target, const Shape& stored, LoadOptions options, const std::string& where) {
  const Shape& wanted = target.tensor.shape();
  const bool fewer_rows = options.extend_embeddings && has_rows_of_ids(target.name) && stored.rank() == wanted.rank() && stored[0] < wanted[0];
  require<FileError>(stored == (fewer_rows ? wanted.with(0, stored[0]) : wanted), where, ": expected shape ", wanted, ", got ", stored);
  return fewer_rows ? target.tensor.slice(0, stored[0]) : target.tensor;
}

}  // namespace

void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::string> all = metadata;
  all[config_metadata_key] = to_yaml(model.config());
  write_safetensors(path, model.parameters().named_values(), all);
}

void load_parameters(Model& model, const CheckpointFile& file, LoadOptions options) {
  std::map<std::string, StoredTensor> unknown = file.tensors;
  const auto& constants = model.parameters().constants();
  std::vector<std::pair<Tensor, Tensor>> copies;  // all is checked before anything is changed
  for (const NamedTensor& target : model.parameters().named_values()) {
    const std::string where = file.path.string() + ": " + target.name;
    const bool is_constant = std::any_of(constants.begin(), constants.end(), [&](const auto& c) { return c->name() == target.name; });
    const auto stored = file.tensors.find(target.name);
    unknown.erase(target.name);
    if (is_constant && stored == file.tensors.end()) continue;
    require<FileError>(stored != file.tensors.end(), where, ": the model needs this tensor, and the file does not have it");
    const Tensor to = destination(target, stored->second.shape, options, where);
    if (!is_constant) copies.emplace_back(to, as_type_of(to, stored->second.read(), where));
  }
  require<FileError>(unknown.empty(), file.path.string(), ": ", unknown.empty() ? "" : shown_text(unknown.begin()->first), ": the model has no such parameter");
  for (auto& [to, from] : copies) to.from_host(from.host_bytes().data());
  model.parameters().values_changed();
}

void load_parameters(Model& model, const std::filesystem::path& path) { load_parameters(model, open_checkpoint(path)); }

ModelConfig checkpoint_config(const CheckpointFile& file, const BlockRegistry& registry) {
  require<FileError>(file.config.has_value(), file.path.string(), ": expected the model's config in the file's metadata (", config_metadata_key,
                     "), found none");
  return parse_model_config(*file.config, file.path.string(), registry);
}

std::unique_ptr<Model> load_model(const CheckpointFile& file, const ModelConfig& config, Device device, DType precision) {
  auto model = std::make_unique<Model>(config);
  model->allocate(device, precision);
  load_parameters(*model, file);
  return model;
}

std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device, DType precision) {
  const CheckpointFile file = open_checkpoint(path);
  return load_model(file, checkpoint_config(file, registry), device, precision);
}

}  // namespace mblm
