// Files with the parameters of a model: .safetensors, and .pth of the Python package.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor.h"

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

}  // namespace mblm
