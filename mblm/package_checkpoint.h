// Checkpoints of the Python package mblm: torch.save files with {"MODEL": parameters, "LOSS": validation loss}.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/parameters.h"

namespace mblm {

inline constexpr const char* package_model_key = "MODEL";
inline constexpr const char* package_loss_key = "LOSS";

// Parameter names of the token embeddings: V042 in version 0.4.2 of the package and later, and in this library; V041 before.
//   V042                                V041
//   token_embs_rev.0.embedding.weight   token_embs_rev.0.weight
//   token_embs_rev.k.embedding.weight   token_embs_rev.k.0.weight
//   token_embs_rev.k._post.n.*          token_embs_rev.k.{n + 1}.*
enum class PackageLayout { V041, V042 };

// Converts a V041 name to the current name. Returns other names unchanged.
std::string current_name(const std::string& name);
// Converts a current name to the V041 name. Returns other names unchanged.
std::string older_name(const std::string& name);

// Writes a file for the package's load_model_state. `tensors` have current names; the file has the names of `layout` and the order
// of the package's model. Without a loss writes infinity, which any later loss improves on. Throws FileError.
void write_package_checkpoint(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors, std::optional<double> loss = {},
                              PackageLayout layout = PackageLayout::V042);

}  // namespace mblm
