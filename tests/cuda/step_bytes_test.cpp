// Bytes of device memory that the kernels of a training step read and write in the bfloat16 mode: as the plans of the kernels add up, in a
// dry run of the published models (MBLM_EMULATOR_DRY=1, which prints a table), and as the access checker sees them, in small models.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/pool.h"
#include "mblm/mblm.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/planned_bytes.h"
#include "tests/cuda/test_device.h"

namespace mblm::testing {
namespace {

std::string path_of(const std::string& name) { return concat_text(MBLM_SOURCE_ROOT "/", name); }

using Slots = std::map<std::string, Moved>;

struct StepBytes {
  Slots micro_step, optimizer_step;
  std::int64_t parameters = 0;
};

template <class F>
Slots observe(const F& work) {
  SlotBytes observer;
  const KernelObserverScope scope(observer);
  work();
  return observer.slots();
}

// The second micro-step of a group, which adds to the gradients, and the optimizer step.
StepBytes count_step(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  const PoolScope scope(std::make_shared<MemoryPool>(test_device()));  // returns all memory
  Model model(config);
  model.allocate(test_device(), DType::BFloat16);
  if (!emulator::settings().dry) model.initialize(1);
  StepRunner runner(model, 2, {.gradient = {.clip = 1}});
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = 1 + static_cast<std::int64_t>(i * 7 % 250);
  const ModelInput input = prepare_input(config, from_values<std::int64_t>(Shape{batch, length}, ids));
  runner.micro_step(input, {.training = true});
  const StepBytes bytes{observe([&] { runner.micro_step(input, {.training = true}); }), observe([&] { runner.optimizer_step(1e-3); }),
                        model.parameters().count()};
  runner.take_outcomes(StepRunner::Newest::WaitFor);
  return bytes;
}

double planned(const Slots& slots) {
  double sum = 0;
  for (const auto& [slot, moved] : slots) sum += moved.planned;
  return sum;
}

struct Group {
  const char* name;
  std::vector<std::string> ops;
};
const std::vector<Group> groups{{"products", {"matmul"}},
                                {"attention, rotary", {"attention", "rotary"}},
                                {"convolution, scan, gate", {"causal_conv1d", "ssd_", "silu_gate", "softplus", "copy_columns", "selective"}},
                                {"embedding, loss", {"embedding", "stage_input", "flatten", "copy_sequence", "layer_norm", "cross_entropy", "count_micro_step"}},
                                {"norms, residual, other", {""}}};

void print(const std::string& title, const Slots& slots) {
  std::cout << title << ": " << planned(slots) * 1e-9 << " GB\n";
  std::map<std::string, double> sums;
  for (const auto& [slot, moved] : slots)
    for (const Group& group : groups)
      if (std::any_of(group.ops.begin(), group.ops.end(), [&, &name = slot](const std::string& op) { return name.starts_with(op); })) {
        sums[group.name] += moved.planned;
        break;
      }
  for (const Group& group : groups)
    if (sums[group.name] > 0) std::cout << "    " << std::left << std::setw(28) << group.name << std::right << std::setw(10) << sums[group.name] * 1e-9 << '\n';
  for (const auto& [slot, moved] : slots)
    std::cout << "        " << std::left << std::setw(32) << slot << std::right << std::setw(6) << moved.calls << " calls" << std::setw(10) << moved.planned * 1e-9 << '\n';
}

std::string layers_per_stage(std::int64_t stages, int layers) {
  std::string text = concat_text("params.num_layers=[", layers);
  for (std::int64_t n = 1; n < stages; ++n) text += concat_text(", ", layers);
  return text + "]";
}

}  // namespace

TEST_CASE("kernels move the bytes of their plans" * doctest::skip(emulator::settings().dry)) {
  struct Case {
    const char* name;
    std::vector<std::string> overrides;
    std::int64_t batch, length;
  };
  const std::string narrow = "params.hidden_dims=[128, 128]";
  const std::vector<Case> cases{{"bench/models/cpu_2d_tt.yaml", {"params.num_layers=[1, 1]", "params.train_checkpoint_chunks=[3]", narrow}, 1, 256},  // attention over 33 and 9 tokens
                                {"bench/models/cpu_1d_t.yaml", {"params.num_layers=[1]"}, 3, 100},                                                      // over 101
                                {"bench/models/cpu_1d_s.yaml", {"params.num_layers=[1]"}, 2, 200},                                                      // ssd_scan over four chunks
                                {"configs/pg19_2d_ss.yaml", {"params.num_layers=[1, 1]", narrow}, 4, 64},                                       // over 9 tokens
                                {"bench/models/cpu_1d_m1.yaml", {"params.num_layers=[1]"}, 3, 100}};
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const StepBytes bytes = count_step(read_model_config(path_of(c.name), BlockRegistry(), c.overrides), c.batch, c.length);
    for (const Slots* slots : {&bytes.micro_step, &bytes.optimizer_step}) {
      double sum = 0, measured = 0;
      for (const auto& [slot, moved] : *slots) {
        CAPTURE(slot);
        CAPTURE(moved.planned);
        CAPTURE(moved.measured);
        CHECK(std::abs(moved.planned - moved.measured) <= 0.12 * moved.measured + 256);  // few ids leave out rows of the table
        sum += moved.planned;
        measured += moved.measured;
      }
      CHECK(sum == doctest::Approx(measured).epsilon(0.02));
    }
  }
}

// The limits are the bytes of 2026-11-28 (bench/LOG.md) and 1 %. A change that moves more needs a reason, one that moves less a lower limit.
TEST_CASE("bytes of a step of the published models" * doctest::skip(!emulator::settings().dry)) {
  struct Limit {
    const char* name;
    double gigabytes;  // of a micro-step of the whole model
  };
  emulator::settings().memory_bytes = std::size_t{200} << 30;
  const auto published = nlohmann::json::parse(std::ifstream(path_of("bench/published_models.json")))["models"];
  std::cout << std::fixed << std::setprecision(3);
  for (const Limit& limit : {Limit{"bench/models/cpu_2d_tt.yaml", 1.583}, {"configs/pg19_1d_t.yaml", 374.6}, {"configs/pg19_2d_ss.yaml", 404.8},
                             {"configs/pg19_2d_st.yaml", 372.2}, {"configs/pg19_3d_stt.yaml", 4052}, {"configs/clevr_1d_s_ft.yaml", 924.8}}) {
    const std::string name = limit.name;
    CAPTURE(name);
    std::int64_t batch = 4, length = 1024;
    const auto entry = std::find_if(published.begin(), published.end(), [&](const auto& model) { return model["config"] == name; });
    if (entry != published.end()) batch = (*entry)["batch"], length = (*entry)["length"];
    const ModelConfig whole = read_model_config(path_of(name), BlockRegistry());
    const ModelConfig part = read_model_config(path_of(name), BlockRegistry(), {layers_per_stage(whole.stages(), 2)});
    for (const ModelConfig* config : {&part, &whole}) {
      const StepBytes bytes = count_step(*config, batch, length);
      print(name + (config == &part ? " with two layers per stage, micro-step" : ", micro-step"), bytes.micro_step);
      print(name + (config == &part ? " with two layers per stage, optimizer step" : ", optimizer step"), bytes.optimizer_step);
      // Norm and update: 4 bytes of a gradient; then value, gradient and moments are read, and value, moments and the bfloat16 copy written.
      CHECK(planned(bytes.optimizer_step) == doctest::Approx(34.0 * static_cast<double>(bytes.parameters)).epsilon(0.01));
      if (config == &whole) CHECK(planned(bytes.micro_step) <= limit.gigabytes * 1e9);
    }
  }
}

}  // namespace mblm::testing
