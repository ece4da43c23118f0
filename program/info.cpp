// mblm info: describes a configuration, a model or this machine.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/io/folder.h"
#include "engine/kernel.h"
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
  if (!argument.config && path_exists(run_config)) return read_yaml(run_config);
  return {.model = opened.config};
}

using Json = nlohmann::ordered_json;

Json json_of_model(const Subject& subject) {
  const Model model(subject.model);  // allocates no memory for its parameters
  const ModelSummary summary = summarize_model(subject.model, model.parameters(), subject.length);
  Json json;
  json["stages"] = Json::array();
  for (const StageSummary& stage : summary.stages)
    json["stages"].push_back({{"block", stage.block_type}, {"tokens", stage.tokens}, {"width", stage.width}, {"layers", stage.layers},
                              {"parameters", stage.parameters}});
  json["parameters"] = summary.parameters;
  json["context"] = subject.model.context();
  json["masked"] = subject.model.is_masked();
  json["forward_flops_per_byte"] = summary.forward_flops();
  json["training_flops_per_byte"] = summary.training_flops();
  json["batch"] = subject.batch;
  json["length"] = summary.length;
  json["training_memory_bytes"] = summary.optimizer_bytes() + summary.activation_bytes(subject.batch);
  return json;
}

Json json_of_devices() {
  Json json;
  const std::vector<std::string> failures = load_backends();
  json["devices"] = Json::array();
  for (const DeviceInfo& info : available_devices()) {
    Runtime& runtime = runtime_of(info.device.kind);
    json["devices"].push_back({{"device", concat_text(info.device)}, {"description", info.description}, {"memory_bytes", info.memory_bytes},
                               {"free_bytes", runtime.memory(info.device.index).free_bytes},
                               {"bfloat16_is_faster", runtime.multiplies_bfloat16(info.device.index)}});
  }
  json["not_usable"] = failures;
  return json;
}

Json json_of_kernels() {
  load_backends();
  Json json;
  for (const KernelSlot* slot : kernel_slots()) {
    Json& devices = json[slot->name()] = Json::object();
    for (int kind = 0; kind < device_kinds; ++kind) {
      const auto device = static_cast<DeviceKind>(kind);
      for (int dtype = 0; dtype < dtype_count; ++dtype)
        if (slot->takes(device, static_cast<DType>(dtype))) devices[std::string(name_of(device))].push_back(concat_text(static_cast<DType>(dtype)));
    }
  }
  return json;
}

std::string describe_as_json(const InfoCommand& command) {
  const std::string& what = command.subject.model;
  const Json json = what == "devices" ? json_of_devices() : what == "kernels" ? json_of_kernels() : json_of_model(find_subject(command.subject, command.overrides));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string describe(const InfoCommand& command) {
  require<ValueError>(command.overrides.empty() || is_yaml(command.subject.model), "FIELD=VALUE: expected only with a configuration (.yaml), got ",
                      command.overrides.empty() ? "" : command.overrides.front());
  if (command.json) return describe_as_json(command);
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
