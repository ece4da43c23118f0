// The commands and options of the program's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "mblm/generate.h"

namespace mblm {

// Options of every command that computes.
struct ComputeOptions {
  std::optional<std::string> device;     // auto, cpu, cuda or cuda:N
  std::optional<std::string> precision;  // float32 or bfloat16; unset: the device's default
  std::optional<int> threads;
};

// Prints help, the bash completion or the man page.
struct HelpCommand {
  std::string command;  // empty: all commands
  bool bash_completion = false, man_page = false;
};

// Prints a config to start from.
struct ConfigCommand {
  std::optional<std::string> size;  // small, medium or large; unset: by device and data
  std::optional<std::string> data;
  std::vector<std::string> overrides;  // FIELD=VALUE
  bool fields = false;                 // print the page about all fields instead
};

struct TrainCommand {
  std::string config;
  std::vector<std::string> overrides;  // FIELD=VALUE
  bool dry_run = false;                // check everything, write nothing
  ComputeOptions compute;
};

// A run's folder, a .safetensors or a .pth file.
struct ModelArgument {
  std::string model;
  std::optional<std::string> config;  // the model's configuration file, if the checkpoint contains none
};

struct ResumeCommand {
  std::string run;                     // the run's folder
  std::vector<std::string> overrides;  // FIELD=VALUE
  bool accept_changed_data = false;
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
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  bool prompt_from_input = false;  // none of the three: lines of the terminal, or no prompt elsewhere
  std::optional<std::int64_t> tokens;
  SamplingOptions sampling{.temperature = 0.8};
  std::vector<std::string> stop_texts;
  bool logprobs = false;
  std::optional<std::string> save_state, load_state;
  std::int64_t count = 1;
  std::optional<std::string> format;  // unset: text on a terminal, raw elsewhere
  bool json = false;
  ComputeOptions compute;
};

struct ScoreCommand {
  ModelArgument model;
  std::vector<std::string> files;   // `-` or none: standard input
  bool per_byte = false;
  std::optional<std::string> html;  // the page to write
  bool json = false;
  ComputeOptions compute;
};

struct CompressCommand {
  ModelArgument model;
  std::string file, output;
  int streams = 1;
  ComputeOptions compute;
};

struct DecompressCommand {
  ModelArgument model;
  std::string file, output;
  ComputeOptions compute;
};

struct EmbedCommand {
  ModelArgument model;
  std::optional<std::string> file;    // unset: standard input
  std::optional<std::string> output;  // .safetensors or .npy; unset: .npy on standard output
  ComputeOptions compute;
};

struct InfoCommand {
  ModelArgument subject;               // a model, a configuration file, `devices` or `kernels`
  std::vector<std::string> overrides;  // FIELD=VALUE, for a configuration file only
  bool json = false;
};

struct ConvertCommand {
  ModelArgument from;
  std::string to;
  std::optional<std::string> layout;  // package version whose parameter names a .pth file has: 0.4.1 or 0.4.2 (default)
};

// Draws the curves of runs. Without `out` and `html`, as text.
struct PlotCommand {
  std::vector<std::string> runs;    // folders
  std::optional<std::string> out;   // .svg or .png
  std::optional<std::string> html;
  bool text = false;
};

struct ServeCommand {
  ModelArgument model;
  std::string host = "127.0.0.1";
  std::int64_t port = 8080;
  std::optional<std::string> api_key_file;
  std::int64_t max_body = 1 << 20, max_tokens = 4096, max_rows = 64, max_queue = 256, max_connections = 400;
  std::int64_t timeout = 600, receive_timeout = 20;  // seconds
  ComputeOptions compute;
};

using Command = std::variant<HelpCommand, ConfigCommand, TrainCommand, ResumeCommand, EvalCommand, GenerateCommand, ScoreCommand, CompressCommand,
                             DecompressCommand, EmbedCommand, InfoCommand, ConvertCommand, PlotCommand, ServeCommand>;

// Returns the command to run, or an exit status if there is nothing to run: 0 after --help and --version, whose text goes to
// standard output; 2 after a wrong command line, which one line on standard error reports.
std::variant<Command, int> parse_command_line(int count, const char* const* arguments);

}  // namespace mblm
