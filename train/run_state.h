// The full state of a run in a file. A run resumed from it computes the same bits as an uninterrupted run. The file contains no times and
// no paths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "train/best_checkpoints.h"
#include "train/loss_average.h"
#include "train/run_folder.h"

namespace mblm {

// Everything that changes during a run, except the tensors (parameters, moments, accumulated gradients) and the best checkpoints.
struct TrainingState {
  std::int64_t micro_step = 0;                  // micro-batches done in this run
  std::int64_t first_batch = 0;                 // micro-batches of the earlier run whose checkpoint this run started from
  std::int64_t steps = 0, skipped_steps = 0;    // optimizer steps in total, and those with a loss or gradient that was not finite
  std::int64_t elements = 0;                    // processed in this run
  std::int64_t epoch = 0, batch = 0;            // place of the next micro-batch
  std::int64_t done_epoch = 0, done_batch = 0;  // place of the last micro-batch
  std::int64_t validation_due = 0;              // 1 if the validation after the last micro-batch is still to be done
  double avg_grad = -1, avg_grad_clipped = -1;  // of the last measured optimizer step, for the next row of loss.csv
  double gradient_norm = -1;                    // of the last optimizer step, before clipping; -1 before the first one
  LossAverage loss_average = {};                 // over the losses of the optimizer steps
  std::int64_t validations = 0;                 // with a finite loss
  std::int64_t best_validation = 0;             // the one with the smallest loss, counted from 1
  double best_validation_loss = 0;              // its loss
  std::int64_t ended_length = 0;                // the run's length in micro-steps when a hook ended it early; 0: none did

  std::int64_t cumulative_batch() const { return first_batch + micro_step; }
};

struct RunState {
  TrainingState training;
  std::int64_t sequences = 0;    // number of training sequences in epoch 0
  RowCounts rows;
  std::vector<Checkpoint> best;  // best first
  std::string data;              // fingerprint of the training data; empty in states of format 2
  std::string config;            // result of immutable_fields (train/immutable_fields.h)
  std::optional<std::int64_t> warmup_steps = {};  // of the schedule; older states do not have it
  std::string hooks = {};        // result of result_hooks (train/trainer_hooks.h)
};

// Writes the numbers and a checksum of the whole state to the metadata of a .safetensors file. Throws FileError as write_safetensors.
void write_run_state(const std::filesystem::path& path, const RunState& state, const std::vector<NamedTensor>& tensors);

struct SavedState {
  RunState state;
  SafetensorsFile tensors;
};
// Throws FileError if the file is damaged or does not contain a state.
SavedState read_run_state(const std::filesystem::path& path);

}  // namespace mblm
