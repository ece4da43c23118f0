// What mblm train and mblm resume share.
#pragma once

#include "mblm/config/config.h"
#include "program/command_line.h"
#include "program/progress_line.h"
#include "train/trainer.h"
#include "train/workers.h"

namespace mblm {

// `overrides` with what --device and --precision say.
Overrides with_compute_options(Overrides overrides, const ComputeOptions& options);
// The callbacks show the run on `line` and stop it when a signal came. All workers have the same; each takes its share of the
// processors.
TrainerOptions trainer_options(const RunConfig& config, const ComputeOptions& compute, ProgressLine& line, Communicator* communicator);
// Runs to the end, or until a signal came to one of the workers, tells how it ended and gives the exit status.
int run_to_end(Trainer& trainer, ProgressLine& line, const Workers& workers);

}  // namespace mblm
