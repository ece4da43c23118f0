// The fields of a config's sections, each declared once.
#pragma once

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

}  // namespace mblm
