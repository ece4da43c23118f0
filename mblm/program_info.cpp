// mblm info: what a configuration or a model is, or what this machine offers.
#include <filesystem>

#include "engine/error.h"
#include "mblm/info.h"
#include "mblm/program.h"

namespace mblm {
namespace {

// A model, and how it is trained where that is known.
struct Subject {
  ModelConfig model;
  std::int64_t batch = 1, length = 0;  // length 0: the model's context
};

// The model's fields are enough. A whole configuration that is in order says batch and length too.
Subject read_yaml(const std::filesystem::path& path) {
  Subject subject{.model = read_model_config(path, BlockRegistry())};
  try {
    const RunConfig run = read_run_config(path, BlockRegistry());
    subject.batch = run.train.batch_size;
    subject.length = run.input_seq_len;
  } catch (const ConfigError&) {
  }
  return subject;
}

Subject find_subject(const ModelArgument& argument) {
  const std::filesystem::path path(argument.model), run_config = path / "config.yaml";
  if (path.extension() == ".yaml" || path.extension() == ".yml") return read_yaml(path);
  const OpenCheckpoint checkpoint = open_checkpoint(argument);
  if (!argument.config && std::filesystem::exists(run_config)) return read_yaml(run_config);
  return {.model = checkpoint.config};
}

std::string describe(const ModelArgument& argument) {
  if (argument.model == "devices") return describe_devices();
  if (argument.model == "kernels") return describe_kernels();
  const Subject subject = find_subject(argument);
  const Model model(subject.model);  // without memory for its parameters
  return describe_model(subject.model, model.parameters(), subject.batch, subject.length);
}

}  // namespace

int run(const InfoCommand& command) {
  write_output(describe(command.subject));
  return 0;
}

}  // namespace mblm
