// Declarations of the fields of each config section, and the checks that need more than one field.
#pragma once

#include <vector>

#include "mblm/config/config.h"
#include "mblm/config/fields.h"
#include "mblm/config/problems.h"

namespace mblm {

void declare_fields(Fields& f, ModelConfig& config);  // without the fields of blocks and masking
void declare_fields(Fields& f, MaskingConfig& config);
void declare_fields(Fields& f, TrainConfig& config);
void declare_fields(Fields& f, IoConfig& config);
void declare_fields(Fields& f, ResumeConfig& config);

// Visits block_type and the block's fields. The visitor must not change values.
void visit_fields(const BlockConfig& block, Fields& f);

// The checks report errors (Fields::report), and continue where errors are collected.
// Checks that every list has one entry per stage (train_checkpoint_chunks: per stage except the first). Runs before blocks are read.
void check_lengths(const ModelConfig& model, const Fields& params);
// Checks the model and its blocks, whose fields and lengths are valid. `blocks`: the fields of each stage's block, to name them in errors.
void check_model(const ModelConfig& model, const Fields& params, const std::vector<const Fields*>& blocks, Problems& problems);
// Checks the mask token of a masked language model.
void check_masking(const ModelConfig& model, const Fields& params);
// Checks the training against a valid model.
void check_with_model(const RunConfig& config, const Fields& params, const Fields& train);
void check_train(const TrainConfig& config, const Fields& train);
void check_io(const IoConfig& config, const Fields& io);

}  // namespace mblm
