// Saved states of sequences: a long prompt is processed once.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mblm/generator.h"

namespace mblm {

struct SavedSequence {
  SequenceState state;
  std::vector<std::int64_t> seen;  // the different ids of the sequence, for the repetition penalty (Sampler)
};

// Writes a .safetensors file, atomically. The metadata contain the precision, a hash of the model's config and parameters, and a
// checksum of the file. The
// bits of the continuation are those of the sequence that was saved, on the same machine and build. Throws FileError.
void save_sequence(const std::filesystem::path& path, const Model& model, const SavedSequence& sequence);

// Reads it for the same model, on any device. Throws FileError, which names the file and the difference, for the state of another
// model or precision, and for a damaged file.
SavedSequence load_sequence(const std::filesystem::path& path, const Model& model);

}  // namespace mblm
