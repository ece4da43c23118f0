// Checks of a config that need more than one field.
#pragma once

#include <vector>

#include "mblm/config/config.h"

namespace mblm {

// Every list has one entry per stage (train_checkpoint_chunks: per stage but the first). Comes before the blocks are read.
void check_lengths(const ModelConfig& model, const Fields& params);
// `blocks`: one per stage, to name fields in errors.
void check_model(const ModelConfig& model, const Fields& params, const std::vector<const Fields*>& blocks);
// The mask token of a masked language model.
void check_masking(const ModelConfig& model, const Fields& params);
void check_run(const RunConfig& config, const Fields& params, const Fields& train, const Fields& io);

}  // namespace mblm
