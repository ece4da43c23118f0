#include "mblm/info.h"

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <sstream>

#include "engine/device.h"
#include "engine/kernel.h"

namespace mblm {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

// Counts the parameters `stage_models.N. ...` of each stage. Other parameters are not attributed to a stage.
void count_stage_parameters(const ParameterStore& parameters, ModelSummary& summary) {
  constexpr std::string_view prefix = "stage_models.";
  for (const auto& parameter : parameters.parameters()) {
    const std::string& name = parameter->name();
    if (!name.starts_with(prefix)) continue;
    std::size_t stage = summary.stages.size();
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), stage);
    if (stage < summary.stages.size()) summary.stages[stage].parameters += parameter->shape().numel();
  }
}

std::string fixed(double value, int decimals) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(decimals) << value;
  return std::move(out).str();
}

std::string scaled(double value, const std::vector<const char*>& units) {
  std::size_t unit = 0;
  for (; value >= 999.95 && unit + 1 < units.size(); ++unit) value /= 1000;
  return fixed(value, 1) + " " + units[unit];
}

std::string flops_text(double flops) { return scaled(flops, {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"}); }
std::string bytes_text(double bytes) { return scaled(bytes, {"B", "kB", "MB", "GB", "TB", "PB"}); }
std::string millions(std::int64_t count) { return fixed(real(count) / 1e6, 2) + " M"; }

// Lists the stages that the totals exclude because their blocks do not report a cost.
std::string unknown_stages(const ModelSummary& summary) {
  std::string text;
  for (std::size_t n = 0; n < summary.stages.size(); ++n)
    if (summary.stages[n].flops == 0) text += (text.empty() ? " (without stage " : ", ") + std::to_string(n);
  return text.empty() ? text : text + ": the block does not report its cost)";
}

void write_stages(std::ostringstream& out, const ModelSummary& summary) {
  std::int64_t others = summary.parameters;
  out << "stage  block               tokens   width  layers  parameters\n";
  for (std::size_t n = 0; n < summary.stages.size(); ++n) {
    const StageSummary& stage = summary.stages[n];
    others -= stage.parameters;
    out << std::left << std::setw(7) << n << std::setw(16) << stage.block_type << std::right << std::setw(10) << stage.tokens << std::setw(8)
        << stage.width << std::setw(8) << stage.layers << std::setw(12) << millions(stage.parameters) << '\n';
  }
  out << "       embeddings, projections, logits" << std::setw(23) << millions(others) << '\n';
}

}  // namespace

double ModelSummary::forward_flops() const {
  double flops = other_flops;
  for (const StageSummary& stage : stages) flops += stage.flops;
  return flops / real(length);
}

double ModelSummary::training_flops() const {
  double recomputed = 0;
  for (const StageSummary& stage : stages) recomputed += stage.chunks > 1 ? stage.flops : 0;
  return 3 * forward_flops() + recomputed / real(length);
}

double ModelSummary::activation_bytes(std::int64_t batch) const {
  double kept = other_activations;
  for (const StageSummary& stage : stages) kept += stage.activations / real(stage.chunks);
  return sizeof(float) * kept * real(batch);
}

// The tokens of a stage are its sequences (the patches of the stage above) times their length. The block also processes the start
// token if there is one. Above the local stage, the bytes of a token are embedded, normalized, projected (patch D_local -> D) and
// normalized, and the outputs of the stage are projected to vectors for the stage below (D -> P D of that stage).
ModelSummary summarize_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t length) {
  ModelSummary summary;
  summary.parameters = parameters.count();
  summary.length = length > 0 ? length : config.context();
  const double byte_width = real(config.hidden_dims.back());
  double sequences = 1;
  for (int n = 0; n < config.stages(); ++n) {
    const auto at = static_cast<std::size_t>(n);
    const bool local = n + 1 == config.stages();
    StageSummary stage{std::string(config.blocks[at]->type()), config.seq_lens[at], config.hidden_dims[at], config.num_layers[at]};
    if (n == 0) stage.tokens = (summary.length + config.patch_bytes(0) - 1) / config.patch_bytes(0);
    if (n > 0 && config.train_checkpoint_chunks) stage.chunks = (*config.train_checkpoint_chunks)[at - 1];
    const BlockCost cost = config.blocks[at]->cost(stage.width, stage.layers, stage.tokens + (config.is_masked() ? 0 : 1));
    stage.flops = sequences * cost.flops;
    stage.activations = sequences * cost.activations;
    const double width = real(stage.width), tokens = sequences * real(stage.tokens), bytes = real(config.patch_bytes(n)) * byte_width;
    const double outputs = local ? real(config.num_tokens) : real(config.hidden_dims[at + 1]) * real(config.seq_lens[at + 1]);
    summary.other_flops += 2 * tokens * (width * outputs + (local ? 0 : bytes * width));
    summary.other_activations += tokens * (2 * width + outputs + (local ? 0 : 2 * bytes));
    sequences = tokens;
    summary.stages.push_back(std::move(stage));
  }
  count_stage_parameters(parameters, summary);
  return summary;
}

std::string describe_model(const ModelConfig& config, const ParameterStore& parameters, std::int64_t batch, std::int64_t length) {
  const ModelSummary summary = summarize_model(config, parameters, length);
  const double optimizer = summary.optimizer_bytes(), activations = summary.activation_bytes(batch);
  const std::string unknown = unknown_stages(summary);
  std::ostringstream out;
  if (config.masking)
    out << "masked language model: mask token " << config.masking->mask_token_id << ", attends to a token if "
        << config.masking->mask_reduce_strat << " of its bytes are in the attention mask\n";
  write_stages(out, summary);
  out << "parameters: " << millions(summary.parameters) << " (" << summary.parameters << ")\n"
      << "forward: " << flops_text(summary.forward_flops()) << " per byte" << unknown << '\n'
      << "training: " << flops_text(summary.training_flops()) << " per byte" << unknown << '\n'
      << "training memory: about " << bytes_text(optimizer + activations) << ": " << bytes_text(optimizer)
      << " of weights, gradients and Adam's moments, " << bytes_text(activations) << " for the backward pass of " << batch << " x " << summary.length
      << " bytes in float32" << unknown << '\n';
  return std::move(out).str();
}

std::string describe_devices() {
  const std::vector<std::string> failures = load_backends();
  std::ostringstream out;
  const auto size = [](std::size_t bytes) { return bytes_text(real(static_cast<std::int64_t>(bytes))); };
  for (const DeviceInfo& info : available_devices()) {
    Runtime& runtime = runtime_of(info.device.kind);
    out << std::left << std::setw(8) << concat_text(info.device) << size(info.memory_bytes) << ", " << size(runtime.memory(info.device.index).free_bytes)
        << " free, " << info.description << ", bfloat16 is " << (runtime.multiplies_bfloat16(info.device.index) ? "faster" : "no faster")
        << " than float32\n";
  }
  for (const std::string& failure : failures) out << "not usable: " << failure << '\n';
  return std::move(out).str();
}

std::string describe_kernels() {
  load_backends();
  std::ostringstream out;
  for (const KernelSlot* slot : kernel_slots()) {
    out << std::left << std::setw(32) << slot->name();
    for (int kind = 0; kind < device_kinds; ++kind) {
      const auto device = static_cast<DeviceKind>(kind);
      if (!slot->has(device)) continue;
      out << "  " << name_of(device) << ':';
      for (int dtype = 0; dtype < dtype_count; ++dtype)
        if (slot->takes(device, static_cast<DType>(dtype))) out << ' ' << static_cast<DType>(dtype);
    }
    out << '\n';
  }
  return std::move(out).str();
}

}  // namespace mblm
