// Functions that the program's files share: the commands, input and output. Results go to standard output, messages and
// progress to standard error.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mblm/checkpoint.h"
#include "program/command_line.h"

namespace mblm {

// Runs a command. Returns the exit status, or throws.
int run(const HelpCommand& command);
int run(const ConfigCommand& command);
int run(const TrainCommand& command);
int run(const ResumeCommand& command);
int run(const EvalCommand& command);
int run(const GenerateCommand& command);
int run(const ScoreCommand& command);
int run(const CompressCommand& command);
int run(const DecompressCommand& command);
int run(const EmbedCommand& command);
int run(const InfoCommand& command);
int run(const ConvertCommand& command);
int run(const PlotCommand& command);
int run(const ServeCommand& command);

// Thrown when standard output is a closed pipe: the program ends without a message.
struct BrokenPipe {};

// Writes to standard output without buffering. Throws BrokenPipe, or FileError for any other failure.
void write_output(std::string_view text);
// Writes `mblm: TEXT` to standard error, as one line even if `text` has several.
void write_note(std::string_view text);

// Writes `mblm: LINE` for each line of an error.
void write_error(std::string_view text);
// Writes text to standard error.
void write_message(std::string_view text);

// Reports a file that cannot be read before the work begins: throws FileError. `-` is standard input. Does not open a named pipe: closing it
// would end its writer.
void check_input(const std::string& file);
// Reads all bytes of a file, or of standard input without a file. Throws FileError.
std::string read_input(const std::optional<std::string>& file);

// Opens the checkpoint that MODEL names, with the config of --config, else the config in the file.
ModelFile open_model(const ModelArgument& argument);
// Starts the threads that compute: `threads`, or the default. Writes a note if the system refuses some of them.
void start_computing(std::optional<int> threads);
// Writes a note if bfloat16 brings nothing on a device.
void note_precision(DType precision, Device device);

// Loads that model with the device and precision of the options. Sets the number of threads.
std::unique_ptr<Model> load_model(const ModelArgument& argument, const ComputeOptions& options);

}  // namespace mblm
