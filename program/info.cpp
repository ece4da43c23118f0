// mblm info: describes a configuration, a model or this machine.
#include <filesystem>

#include "engine/error.h"
#include "mblm/info.h"
#include "program/program.h"

namespace mblm {
namespace {

// A model, and its training batch if that is known.
struct Subject {
  ModelConfig model;
  std::int64_t batch = 1, length = 0;  // length 0: the model's context
};

bool is_yaml(const std::filesystem::path& path) { return path.extension() == ".yaml" || path.extension() == ".yml"; }

// Requires the model's fields only. A complete, valid configuration also gives batch and length.
Subject read_yaml(const std::filesystem::path& path, const Overrides& overrides = {}) {
  Subject subject{.model = read_model_config(path, BlockRegistry(), overrides)};
  try {
    read_run_config(path, BlockRegistry());
  } catch (const ConfigError&) {
    return subject;
  }
  const RunConfig run = read_run_config(path, BlockRegistry(), overrides);
  subject.batch = run.train.batch_size;
  subject.length = run.input_seq_len;
  return subject;
}

Subject find_subject(const ModelArgument& argument, const Overrides& overrides) {
  const std::filesystem::path path(argument.model), run_config = path / "config.yaml";
  if (is_yaml(path)) return read_yaml(path, overrides);
  const ModelFile opened = open_model(argument);
  if (!argument.config && std::filesystem::exists(run_config)) return read_yaml(run_config);
  return {.model = opened.config};
}

std::string describe(const InfoCommand& command) {
  require<ValueError>(command.overrides.empty() || is_yaml(command.subject.model), "FIELD=VALUE: expected only with a configuration (.yaml), got ",
                      command.overrides.empty() ? "" : command.overrides.front());
  if (command.subject.model == "devices") return describe_devices();
  if (command.subject.model == "kernels") return describe_kernels();
  const Subject subject = find_subject(command.subject, command.overrides);
  const Model model(subject.model);  // allocates no memory for its parameters
  return describe_model(subject.model, model.parameters(), subject.batch, subject.length);
}

}  // namespace

int run(const InfoCommand& command) {
  write_output(describe(command));
  return 0;
}

}  // namespace mblm
