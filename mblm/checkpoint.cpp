// Models in files: parameters under their names, the config in the metadata.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "engine/safetensors.h"
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

}  // namespace

void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::string> all = metadata;
  all[config_metadata_key] = to_yaml(model.config());
  write_safetensors(path, model.parameters().named_values(), all);
}

void load_parameters(Model& model, const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::set<std::string> unknown(file.names().begin(), file.names().end());
  const std::vector<NamedTensor> constants = model.parameters().constants();
  std::vector<std::pair<Tensor, Tensor>> copies;  // all is checked before anything is changed
  for (const NamedTensor& target : model.parameters().named_values()) {
    const std::string where = path.string() + ": " + target.name;
    const bool is_constant = std::any_of(constants.begin(), constants.end(), [&](const NamedTensor& c) { return c.name == target.name; });
    unknown.erase(target.name);
    if (is_constant && !file.has(target.name)) continue;
    require<FileError>(file.has(target.name), where, ": the model needs this tensor, and the file does not have it");
    const Tensor stored = file.tensor(target.name);
    require<FileError>(stored.shape() == target.tensor.shape(), where, ": expected shape ", target.tensor.shape(), ", got ", stored.shape());
    if (!is_constant) copies.emplace_back(target.tensor, as_type_of(target.tensor, stored, where));
  }
  require<FileError>(unknown.empty(), path.string(), ": ", unknown.empty() ? "" : *unknown.begin(), ": the model has no such parameter");
  for (auto& [to, from] : copies) to.from_host(from.raw());
  model.parameters().values_changed();
}

ModelConfig read_checkpoint_config(const std::filesystem::path& path, const BlockRegistry& registry) {
  const SafetensorsFile file(path);
  const auto found = file.metadata().find(config_metadata_key);
  require<FileError>(found != file.metadata().end(), path.string(), ": expected the model's config in the file's metadata (", config_metadata_key,
                     "), found none");
  return parse_model_config(found->second, path.string(), registry);
}

std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device) {
  auto model = std::make_unique<Model>(read_checkpoint_config(path, registry));
  model->allocate(device);
  load_parameters(*model, path);
  return model;
}

}  // namespace mblm
