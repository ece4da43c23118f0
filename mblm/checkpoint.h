// Checkpoints: files with the parameters of a model, .safetensors with the model's config in its metadata, or .pth of the
// Python package.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mblm/model.h"

namespace mblm {

// Of a .safetensors file's metadata: the model's config as YAML, and its validation loss.
inline constexpr const char* config_metadata_key = "mblm_config";
inline constexpr const char* loss_metadata_key = "validation_loss";

// Beginnings of names and what stands for them instead; of two that fit the first counts.
using Renames = std::vector<std::pair<std::string, std::string>>;

struct StoredTensor {
  Shape shape;
  std::function<Tensor()> read;  // on the CPU; not copied where that can be
};

// What a file has. The names are those of the parameters, whatever layout of the Python package the file is in.
struct CheckpointFile {
  std::filesystem::path path;
  std::map<std::string, StoredTensor> tensors;
  std::optional<std::string> config;  // the model's, YAML
  std::optional<double> loss;         // finite
};

// Opens a file by its ending; `renames` come before the layout's names. Throws FileError, naming the file, for another ending
// and for what the readers refuse (engine/io/safetensors.h, engine/io/torch_file.h).
CheckpointFile open_checkpoint(const std::filesystem::path& path, const Renames& renames = {});

// Writes a .safetensors file with the config in its metadata, so that one file is enough to use a model; `metadata` is added.
void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {});

struct LoadOptions {
  // The file may have fewer ids than the model: fewer rows of the token embeddings and of to_logits. They become the first
  // ones, and the model keeps the rest as it is.
  bool extend_embeddings = false;
};
// Fills the parameters of an allocated model from a file's tensors. Throws FileError naming the tensor that is missing,
// unknown, or of another shape or element type; then nothing is changed.
void load_parameters(Model& model, const CheckpointFile& file, LoadOptions options = {});
void load_parameters(Model& model, const std::filesystem::path& path);

// A checkpoint with the config of its model.
struct ModelFile {
  CheckpointFile file;
  ModelConfig config;
};
// Opens the best checkpoint of a run folder, or a .safetensors or .pth file. The config is that of the YAML file `config`, or
// else the checkpoint's own. Throws FileError if a file is missing or there is no config, ConfigError.
ModelFile open_model(const std::filesystem::path& path, const BlockRegistry& registry, const std::optional<std::filesystem::path>& config = {});

// The model of a checkpoint, allocated on `device`. Throws FileError.
std::unique_ptr<Model> load_model(const ModelFile& opened, Device device = {}, DType precision = DType::Float32);
std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device = {}, DType precision = DType::Float32);

}  // namespace mblm
