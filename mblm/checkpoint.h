// Checkpoints contain the parameters of a model: .safetensors files with the model's config in their metadata, or .pth files of
// the Python package.
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

// Metadata keys of a .safetensors file: the model's config as YAML, and the validation loss.
inline constexpr const char* config_metadata_key = "mblm_config";
inline constexpr const char* loss_metadata_key = "validation_loss";

// Name prefixes and their replacements. The first matching prefix applies.
using Renames = std::vector<std::pair<std::string, std::string>>;

struct StoredTensor {
  Shape shape;
  std::function<Tensor()> read;  // reads the tensor on the CPU, without a copy where possible
};

// The content of a checkpoint. Tensors have the names of the model's parameters, for either layout of the Python package.
struct CheckpointFile {
  std::filesystem::path path;
  std::map<std::string, StoredTensor> tensors;
  std::optional<std::string> config;  // the model's, YAML
  std::optional<double> loss;         // finite
};

// Opens a .safetensors or .pth (.pt, .ckpt) file. The tensors of a .pth file are those under MODEL, as the package writes them, under
// state_dict, model_state_dict or model, or at the top. A prefix that all names share (module., _orig_mod., model.) is removed. `renames` apply
// before that, and before the names of the package's layout are converted. Throws FileError, naming the file, for other extensions and for the
// errors of the readers (engine/io/safetensors.h, engine/io/torch_file.h).
CheckpointFile open_checkpoint(const std::filesystem::path& path, const Renames& renames = {});

// Writes a .safetensors file with the config and `metadata` in its metadata, so that the file alone is enough to use the model.
void save_model(const Model& model, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {});

struct LoadOptions {
  // Allows a file with fewer ids than the model, that is fewer rows of the token embeddings and of to_logits. Its rows become the
  // first rows; the other rows of the model keep their values.
  bool extend_embeddings = false;
};
// Fills the parameters of an allocated model from a file, and the stored constants that the file contains. Throws FileError, naming the tensor,
// if a tensor is missing, unknown, or has a wrong shape or element type. The model is then unchanged.
void load_parameters(Model& model, const CheckpointFile& file, LoadOptions options = {});
void load_parameters(Model& model, const std::filesystem::path& path);

// A checkpoint and the config of its model.
struct ModelFile {
  CheckpointFile file;
  ModelConfig config;
};
// Opens the best checkpoint of a run folder, or a .safetensors or .pth file. The config is read from the YAML file `config` if given,
// otherwise from the checkpoint. Throws FileError if a file or the config is missing, ConfigError.
ModelFile open_model(const std::filesystem::path& path, const BlockRegistry& registry, const std::optional<std::filesystem::path>& config = {});

// Creates the model of a checkpoint on `device` (Model::allocate) and loads its parameters. Throws FileError.
std::unique_ptr<Model> load_model(const ModelFile& opened, Device device = {}, DType precision = DType::Float32, Gradients gradients = Gradients::Yes);
std::unique_ptr<Model> load_model(const std::filesystem::path& path, const BlockRegistry& registry, Device device = {}, DType precision = DType::Float32,
                                  Gradients gradients = Gradients::Yes);

}  // namespace mblm
