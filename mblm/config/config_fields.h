// The fields of a config's sections, each declared once, and the checks that need more than one field.
#pragma once

#include <vector>

#include "mblm/config/config.h"
#include "mblm/config/fields.h"

namespace mblm {

void declare_fields(Fields& f, ModelConfig& config);  // without the fields of the blocks and of the masking
void declare_fields(Fields& f, MaskingConfig& config);
void declare_fields(Fields& f, TrainConfig& config);
void declare_fields(Fields& f, IoConfig& config);
void declare_fields(Fields& f, ResumeConfig& config);

// The fields of a block with its type, for visitors that do not change values.
void visit_fields(const BlockConfig& block, Fields& f);

// Every list has one entry per stage (train_checkpoint_chunks: per stage but the first). Comes before the blocks are read.
void check_lengths(const ModelConfig& model, const Fields& params);
// `blocks`: one per stage, to name fields in errors.
void check_model(const ModelConfig& model, const Fields& params, const std::vector<const Fields*>& blocks);
// The mask token of a masked language model.
void check_masking(const ModelConfig& model, const Fields& params);
void check_run(const RunConfig& config, const Fields& params, const Fields& train, const Fields& io);

}  // namespace mblm
