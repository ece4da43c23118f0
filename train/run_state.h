// The full state of a run in a file: going on from it gives the bits of a run that never stopped. No time and no path is in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "train/best_checkpoints.h"
#include "train/run_folder.h"

namespace mblm {

// All that moves while a run goes on, beside the tensors (parameters, moments, gradients in flight) and the best checkpoints.
struct TrainingState {
  std::int64_t micro_step = 0;                  // micro-batches done in this run
  std::int64_t first_batch = 0;                 // micro-batches before it, in the run whose checkpoint it started from
  std::int64_t steps = 0, skipped_steps = 0;    // optimizer steps: all, and those whose loss or gradient was not finite
  std::int64_t elements = 0;                    // seen in this run
  std::int64_t epoch = 0, batch = 0;            // of the next micro-batch
  std::int64_t done_epoch = 0, done_batch = 0;  // of the one before it
  std::int64_t validation_due = 0;              // 1: the validation after that one is still to be done
  double avg_grad = -1, avg_grad_clipped = -1;  // for the next row of loss.csv, from the last optimizer step before it

  std::int64_t cumulative_batch() const { return first_batch + micro_step; }
};

struct RunState {
  TrainingState training;
  std::int64_t sequences = 0;       // of the training data, in epoch 0
  RowCounts rows;
  std::vector<Checkpoint> best;     // best first
  std::string config;               // immutable_fields of train/immutable_fields.h
};

// The numbers stand in the metadata, with a checksum of everything. Throws FileError as write_safetensors does.
void write_run_state(const std::filesystem::path& path, const RunState& state, const std::vector<NamedTensor>& tensors);

struct SavedState {
  RunState state;
  SafetensorsFile tensors;
};
// Throws FileError for a file that is no state, or is damaged.
SavedState read_run_state(const std::filesystem::path& path);

}  // namespace mblm
