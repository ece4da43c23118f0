// What the parts of the program share: each command's work, and the way to the outside. Results go to standard output,
// everything a person watches to standard error.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mblm/model.h"
#include "program/command_line.h"

namespace mblm {

// Each returns the exit status, or throws.
int run(const TrainCommand& command);
int run(const ResumeCommand& command);
int run(const EvalCommand& command);
int run(const GenerateCommand& command);
int run(const EmbedCommand& command);
int run(const InfoCommand& command);
int run(const ConvertCommand& command);

// Thrown when nobody reads standard output any more: the program ends quietly.
struct BrokenPipe {};

// Writes to standard output at once. Throws BrokenPipe, or FileError when it cannot be written.
void write_output(std::string_view text);
// One line on standard error: `mblm: TEXT`, of as many as there are.
void write_note(std::string_view text);

// All bytes of a file, or of standard input where none is named. Throws FileError.
std::string read_input(const std::optional<std::string>& file);

// The file that MODEL names: itself, or the best checkpoint of a run's folder. Throws FileError.
std::filesystem::path model_file(const std::string& model);

// Sets the number of threads, loads the backends and finds the device that an option or config field names (auto, cpu,
// cuda, cuda:N). Throws DeviceError when it is not there.
Device open_device(const std::string& name, const ComputeOptions& options);

// The checkpoint that MODEL names, and the model's config: that of --config, or else the file's own. Throws FileError.
struct OpenCheckpoint {
  CheckpointFile file;
  ModelConfig config;
};
OpenCheckpoint open_checkpoint(const ModelArgument& argument);
// The model that MODEL names, on the device and in the precision that the options name.
std::unique_ptr<Model> open_model(const ModelArgument& argument, const ComputeOptions& options);

}  // namespace mblm
