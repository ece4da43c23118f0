// What the parts of the program share: each command's work, and the way to the outside. Results go to standard output,
// everything a person watches to standard error.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mblm/checkpoint.h"
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

// The checkpoint that MODEL names, with the config of --config or else the file's own.
ModelFile open_model(const ModelArgument& argument);
// That model, on the device and in the precision that the options name; sets the number of threads.
std::unique_ptr<Model> load_model(const ModelArgument& argument, const ComputeOptions& options);

}  // namespace mblm
