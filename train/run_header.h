// The lines that a run shows and logs when it starts: what is trained, on what, and what it needs.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/training_data.h"

namespace mblm {

struct RunHeader {
  const RunConfig& config;
  const Model& model;
  const TrainingData& data;
  const Schedule& schedule;
  const TrainingState& state;
  Device device;
  std::string device_description;
  int workers = 1;
  std::size_t free_bytes = 0;    // of the device's memory, before the model was allocated; 0: unknown
  std::filesystem::path folder;  // of the run
};

// `TOPIC: text` for the model, the start, the device, the data, the steps, the memory and the folder. Further lines of a topic are indented.
std::vector<std::string> header_lines(const RunHeader& header);

// The same lines for a terminal: those longer than `width` characters continue, indented, on further lines, where they have a space.
std::vector<std::string> fitted_lines(const std::vector<std::string>& lines, std::size_t width);

// Bytes that training needs: parameters, gradients, optimizer, and activations in the run's precision.
double training_bytes(const RunConfig& config, const Model& model);

}  // namespace mblm
