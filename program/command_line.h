// What can be asked of the program on its command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "mblm/generate.h"

namespace mblm {

// On every command that computes.
struct ComputeOptions {
  std::optional<std::string> device;     // auto, cpu, cuda or cuda:N
  std::optional<std::string> precision;  // float32 or bfloat16; unset: as the device has it
  std::optional<int> threads;
};

struct TrainCommand {
  std::string config;
  std::vector<std::string> overrides;  // FIELD=VALUE
  ComputeOptions compute;
};

// A run's folder, a .safetensors or a .pth file.
struct ModelArgument {
  std::string model;
  std::optional<std::string> config;  // of a model whose file carries none
};

struct ResumeCommand {
  std::string run;                     // its folder
  std::vector<std::string> overrides;  // FIELD=VALUE
  ComputeOptions compute;
};

struct EvalCommand {
  ModelArgument model;
  std::optional<std::string> data;
  std::string split = "test";
  bool json = false;
  ComputeOptions compute;
};

struct GenerateCommand {
  ModelArgument model;
  std::string prompt;
  std::optional<std::string> prompt_file;
  bool prompt_from_input = false;
  std::optional<std::int64_t> tokens;
  SamplingOptions sampling{.temperature = 0.8};
  std::int64_t count = 1;
  std::optional<std::string> format;  // unset: text on a terminal, else raw
  bool json = false;
  ComputeOptions compute;
};

struct EmbedCommand {
  ModelArgument model;
  std::optional<std::string> file;    // unset: standard input
  std::optional<std::string> output;  // .safetensors or .npy; unset: .npy on standard output
  ComputeOptions compute;
};

struct InfoCommand {
  ModelArgument subject;               // or a configuration, or what this machine offers
  std::vector<std::string> overrides;  // FIELD=VALUE, of a configuration
};

struct ConvertCommand {
  ModelArgument from;
  std::string to;
  std::optional<std::string> layout;  // how a .pth file calls its parameters: 0.4.1, or 0.4.2, the default
};

using Command = std::variant<TrainCommand, ResumeCommand, EvalCommand, GenerateCommand, EmbedCommand, InfoCommand, ConvertCommand>;

// What to run; or the exit status where the command line itself says it all: after --help and --version, whose text goes
// to standard output (0), and after a wrong command line, of which one line tells on standard error (2).
std::variant<Command, int> parse_command_line(int count, const char* const* arguments);

}  // namespace mblm
