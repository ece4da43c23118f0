// What of a config a run cannot change while it goes on.
#pragma once

#include <string>

#include "mblm/config/config.h"

namespace mblm {

// YAML of the fields that decide what a run computes and which checkpoints it keeps. Not among them, so that a resumed run may
// have others: train.device, train.save_state_every, train.on_nonfinite, train.cuda_graphs, and of `io` all but dataset_id,
// dataset_args, num_models_to_save and validate_amount. No path is among them. `num_workers` is one more.
std::string immutable_fields(const RunConfig& config, int workers);

// `train.batch_size (4, now 8), train.seed (0, now 7)`: the fields in which two such texts differ.
std::string differing_fields(const std::string& before, const std::string& now);

}  // namespace mblm
