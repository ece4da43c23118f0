// Calls of the CUDA runtime in a training step: of a small model, whose kernels run, and in a dry run (MBLM_EMULATOR_DRY=1) of the published
// models, with two layers per stage and short sequences: the counts do not depend on the lengths. With MBLM_LONG the kernels of the published
// models run too. Prints a table.
#include <doctest/doctest.h>

#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "mblm/mblm.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/test_device.h"

namespace mblm::testing {
namespace {

constexpr std::int64_t batch = 2;

std::string two_layers_per_stage(std::int64_t stages) {
  std::string text = "params.num_layers=[2";
  for (std::int64_t n = 1; n < stages; ++n) text += ", 2";
  return text + "]";
}

// Two patches of the first stage, or 80 bytes of a model with one stage.
std::int64_t short_length(const ModelConfig& config) { return config.stages() == 1 ? 80 : 2 * config.patch_bytes(0); }

emulator::Counts count_step(const std::string& path, bool is_published, bool graphs) {
  const ModelConfig full = read_model_config(path, BlockRegistry());
  Model model(is_published ? read_model_config(path, BlockRegistry(), {two_layers_per_stage(full.stages())}) : full);
  model.allocate(test_device(), DType::BFloat16);
  model.initialize(1);
  StepRunner runner(model, 1, {.gradient = {.clip = 1}}, graphs);
  const std::int64_t length = short_length(model.config());
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = 1 + static_cast<std::int64_t>(i * 7 % 250);
  const int warm_up = graphs ? 3 : 2;  // with graphs, the first step is eager and the second one is captured
  const ModelInput input = prepare_input(model.config(), from_values<std::int64_t>(Shape{batch, length}, ids));
  for (int step = 0; step <= warm_up; ++step) {
    if (step == warm_up) emulator::counts() = {};
    runner.micro_step(input, {.training = true});
    runner.optimizer_step(1e-3);
    for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::Leave)) CHECK((outcome.finite || emulator::settings().dry));
  }
  const emulator::Counts counts = emulator::counts();
  runner.take_outcomes(StepRunner::Newest::WaitFor);
  return counts;
}

}  // namespace

TEST_CASE("a step allocates nothing and waits for nothing") {
  std::ostringstream table;
  table << "model            graphs  launches  graph launches  copies to device / host / within  fills  allocations  waits\n";
  for (const char* name : {"bench/models/cpu_2d_tt", "configs/pg19_1d_t", "configs/pg19_2d_ss", "configs/pg19_2d_st", "configs/pg19_3d_stt", "configs/clevr_1d_s_ft"})
    for (const bool graphs : {false, true}) {
      const bool is_published = std::string(name).starts_with("configs");
      // Their kernels run for minutes, and with graphs they are the same.
      if (is_published && !emulator::settings().dry && (graphs || std::getenv("MBLM_LONG") == nullptr)) continue;
      CAPTURE(name);
      const std::string path = concat_text(MBLM_SOURCE_ROOT "/", name, ".yaml");
      const emulator::Counts c = count_step(path, is_published, graphs);
      CHECK(c.allocations + c.pinned_allocations == 0);
      CHECK(c.waits == 0);
      CHECK(c.copies_to_host == 1);
      CHECK(c.copies_to_device == 2);  // the input and the learning rate
      CHECK(c.graph_launches == (graphs ? 2 : 0));
      table << std::left << std::setw(24) << name << (graphs ? "yes " : "no  ") << std::right << std::setw(6) << c.launches << std::setw(6) << c.graph_launches << std::setw(6)
            << c.copies_to_device << std::setw(4) << c.copies_to_host << std::setw(5) << c.copies_within << std::setw(6) << c.fills << std::setw(4) << c.allocations
            << std::setw(4) << c.waits << '\n';
    }
  std::cout << table.str();
}

}  // namespace mblm::testing
