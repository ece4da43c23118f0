// The fields of a config that cannot change when a run is resumed.
#pragma once

#include <string>

#include "mblm/config/config.h"

namespace mblm {

// Returns as YAML the fields that determine what a run computes and which checkpoints it keeps, plus `num_workers`. The result excludes
// the fields that can change on resume: the length (train.target_elements, train.max_steps, train.epochs), train.device,
// train.save_state_every, train.on_nonfinite, train.cuda_graphs, and all of `io` except dataset_id, dataset_args, num_models_to_save and validate_amount. It contains no paths.
std::string immutable_fields(const RunConfig& config, int workers);

// Lists the immutable fields of `config` that differ from those that a state saved. Fields that are newer than the state had their
// defaults. Throws ConfigError for text that immutable_fields did not write.
std::string changed_fields(const std::string& saved, const RunConfig& config, int workers);

// Lists the fields in which two such texts differ: `train.batch_size (4, now 8), train.seed (0, now 7)`.
std::string differing_fields(const std::string& before, const std::string& now);

}  // namespace mblm
