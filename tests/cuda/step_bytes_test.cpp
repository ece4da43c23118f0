// Bytes of device memory that the kernels of a training step move.
#include <doctest/doctest.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <set>
#include <sstream>

#include "mblm/mblm.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/planned_bytes.h"
#include "tests/cuda/test_device.h"

namespace mblm::testing {
namespace {

std::string model_path(const std::string& name) { return concat_text(MBLM_SOURCE_ROOT "/", name, ".yaml"); }

struct Shapes {
  std::int64_t batch, length;
};

struct StepBytes {
  std::map<std::string, Moved> micro_step, optimizer_step;
};

// The second micro-step of a group, and the optimizer step.
StepBytes count_step(const ModelConfig& config, const Shapes& shapes) {
  Model model(config);
  model.allocate(test_device(), DType::BFloat16);
  if (!emulator::settings().dry) model.initialize(1);
  StepRunner runner(model, 2, {.gradient = {.clip = 1}});
  std::vector<std::int64_t> ids(static_cast<std::size_t>(shapes.batch * shapes.length));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = 1 + static_cast<std::int64_t>(i * 7 % 250);
  const ModelInput input = prepare_input(config, from_values<std::int64_t>(Shape{shapes.batch, shapes.length}, ids));
  runner.micro_step(input, {.training = true});
  StepBytes bytes;
  const auto observe = [](const auto& work) {
    SlotBytes observer;
    const KernelObserverScope scope(observer);
    work();
    return observer.slots();
  };
  bytes.micro_step = observe([&] { runner.micro_step(input, {.training = true}); });
  bytes.optimizer_step = observe([&] { runner.optimizer_step(1e-3); });
  runner.take_outcomes(StepRunner::Newest::WaitFor);
  return bytes;
}

// Sums over groups of slots, for the table.
const char* group_of(const std::string& slot) {
  const auto is_of = [&](std::initializer_list<std::string_view> ops) {
    return std::any_of(ops.begin(), ops.end(), [&](std::string_view op) { return slot.starts_with(op); });
  };
  if (is_of({"matmul"})) return "products";
  if (is_of({"attention", "rotary"})) return "attention, rotary";
  if (is_of({"causal_conv1d", "ssd_", "silu_gate", "softplus", "copy_columns", "selective"})) return "convolution, scan, gate";
  if (is_of({"embedding", "stage_input", "flatten", "copy_sequence", "layer_norm"})) return "embedding, patches";
  if (is_of({"cross_entropy", "count_micro"})) return "loss";
  return "norms, shifts, residual";
}

void print(const std::string& name, const std::map<std::string, Moved>& slots) {
  std::map<std::string, double> groups;
  double total = 0;
  for (const auto& [slot, moved] : slots) {
    groups[group_of(slot)] += moved.planned;
    total += moved.planned;
  }
  std::cout << name << ": " << total * 1e-9 << " GB\n";
  for (const auto& [group, bytes] : groups) std::cout << "    " << std::left << std::setw(28) << group << std::right << std::setw(10) << bytes * 1e-9 << " GB\n";
  for (const auto& [slot, moved] : slots)
    std::cout << "        " << std::left << std::setw(32) << slot << std::right << std::setw(8) << moved.calls << std::setw(14) << moved.planned * 1e-9 << " GB\n";
}

std::string layers_per_stage(std::int64_t stages, int layers) {
  std::string text = concat_text("params.num_layers=[", layers);
  for (std::int64_t n = 1; n < stages; ++n) text += concat_text(", ", layers);
  return text + "]";
}

}  // namespace

TEST_CASE("the kernels move the bytes of their plans" * doctest::skip(emulator::settings().dry)) {
  struct Case {
    const char* name;
    Overrides overrides;
    Shapes shapes;
  };
  for (const Case& c : {Case{"bench/models/cpu_2d_tt", {"params.num_layers=[1, 1]"}, {2, 256}}, Case{"bench/models/cpu_1d_s", {"params.num_layers=[1]"}, {2, 200}}}) {
    const StepBytes bytes = count_step(read_model_config(model_path(c.name), BlockRegistry(), c.overrides), c.shapes);
    for (const auto* slots : {&bytes.micro_step, &bytes.optimizer_step})
      for (const auto& [slot, moved] : *slots) {
        std::cout << c.name << ' ' << slot << ' ' << moved.calls << ' ' << moved.planned << ' ' << moved.measured << ' ' << moved.planned / moved.measured << '\n';
      }
  }
}

TEST_CASE("bytes of a step of the published models" * doctest::skip(!emulator::settings().dry)) {
  emulator::settings().memory_bytes = std::size_t{200} << 30;
  std::cout << std::fixed << std::setprecision(3);
  for (const char* name : {"bench/models/cpu_2d_tt", "configs/pg19_1d_t", "configs/pg19_2d_ss", "configs/pg19_2d_st", "configs/pg19_3d_stt", "configs/clevr_1d_s_ft"}) {
    const bool is_published = std::string(name).starts_with("configs");
    for (const bool whole : {false, true}) {
      const auto read = [&](const Overrides& overrides) { return read_model_config(model_path(name), BlockRegistry(), overrides); };
      const ModelConfig full = read({}), config = whole ? full : read({layers_per_stage(full.stages(), 2)});
      Shapes shapes{4, 1024};
      if (is_published) {
        const RunConfig run = read_run_config(model_path(name), BlockRegistry());
        shapes = {run.train.batch_size, run.input_seq_len};
      }
      const StepBytes bytes = count_step(config, shapes);
      print(concat_text(name, whole ? "" : " with two layers per stage", ", micro-step"), bytes.micro_step);
      print(concat_text(name, whole ? "" : " with two layers per stage", ", optimizer step"), bytes.optimizer_step);
    }
  }
}

}  // namespace mblm::testing
