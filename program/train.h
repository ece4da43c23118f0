// Functions that mblm train and mblm resume share.
#pragma once

#include "mblm/config/config.h"
#include "program/command_line.h"
#include "program/progress_line.h"
#include "train/trainer.h"
#include "train/workers.h"

namespace mblm {

// Adds --device and --precision to `overrides`.
Overrides with_compute_options(Overrides overrides, const ComputeOptions& options);
// Options whose callbacks show progress on `line` and stop the run after a signal. Also sets the number of threads: each worker
// takes its share of the processors. All workers must call this.
TrainerOptions trainer_options(const RunConfig& config, const ComputeOptions& compute, ProgressLine& line, Communicator* communicator);
// Shows what the run does, on standard error.
void show_header(const Trainer& trainer, const Workers& workers, const ProgressLine& line);
// Trains to the end, or until a worker receives a signal. Reports the result and returns the exit status.
int run_to_end(Trainer& trainer, ProgressLine& line, const Workers& workers);

}  // namespace mblm
