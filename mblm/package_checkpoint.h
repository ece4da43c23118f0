// Checkpoints of the Python package mblm: files of torch.save, {"MODEL": parameters, "LOSS": validation loss}.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/parameters.h"

namespace mblm {

inline constexpr const char* package_model_key = "MODEL";
inline constexpr const char* package_loss_key = "LOSS";

// How the parameters of the token embeddings are called: by the package since 0.4.2, which is how they are called here, or by
// the versions before it.
//   token_embs_rev.0.embedding.weight   token_embs_rev.0.weight
//   token_embs_rev.k.embedding.weight   token_embs_rev.k.0.weight
//   token_embs_rev.k._post.n.*          token_embs_rev.k.{n + 1}.*
enum class PackageLayout { V041, V042 };

// The current name of what has an older name; other names stay.
std::string current_name(const std::string& name);
// The older name of what has a current name; other names stay.
std::string older_name(const std::string& name);

// Writes what the package's load_model_state reads: tensors under current names, in that layout's names and in the order in
// which the package's model has them. Without a loss it is infinite: any other is better. Throws FileError.
void write_package_checkpoint(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors, std::optional<double> loss = {},
                              PackageLayout layout = PackageLayout::V042);

}  // namespace mblm
