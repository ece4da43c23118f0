// mblm train: runs a configuration.
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <iomanip>
#include <string_view>

#include "mblm/interrupt.h"
#include "mblm/program.h"
#include "mblm/program_progress.h"
#include "mblm/progress_line.h"
#include "train/trainer.h"

namespace mblm {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

RunConfig read_config(const TrainCommand& command) {
  Overrides overrides = command.overrides;
  if (command.compute.device) overrides.push_back("train.device=" + *command.compute.device);
  if (command.compute.precision) overrides.push_back("train.precision=" + *command.compute.precision);
  RunConfig config = read_run_config(command.config, BlockRegistry(), overrides);
  for (const std::string& field : fields_not_acting(config)) write_note("not yet acting: " + field);
  return config;
}

TrainerOptions trainer_options(const TrainCommand& command, const RunConfig& config, ProgressLine& line) {
  TrainerOptions options{.device = open_device(config.train.device, command.compute), .job_id = environment("JOB_ID"), .callbacks = {}};
  options.callbacks.on_progress = [&line](const TrainingProgress& progress) { line.show(progress_text(progress)); };
  options.callbacks.progress_interval = line.interval();
  options.callbacks.should_stop = [] { return InterruptScope::signal() != 0; };
  if (environment("MBLM_LOG") == "debug") options.callbacks.on_log = [&line](const std::string& text) { line.note(text); };
  return options;
}

void tell_loss(ProgressLine& line, const char* what, const std::optional<double>& loss) {
  if (loss) line.note(concat_text(what, ": loss ", std::setprecision(5), *loss, ", ", *loss / std::log(2.0), " bits per byte"));
}

int stopped(const TrainingResult& result) {
  const int signal = InterruptScope::signal();
  const std::filesystem::path best = result.folder / "checkpoints" / "best.safetensors";
  write_note(concat_text("stopped by ", signal == SIGTERM ? "SIGTERM" : "SIGINT", " after step ", result.state.steps, "; ",
                         std::filesystem::exists(best) ? "the best checkpoint so far: " + best.string() : "no checkpoint was saved yet"));
  return 128 + signal;
}

}  // namespace

int run(const TrainCommand& command) {
  const RunConfig config = read_config(command);
  ProgressLine line(STDERR_FILENO);
  const InterruptScope interrupt;
  Trainer trainer(config, DatasetRegistry(), trainer_options(command, config, line));
  const TrainingResult result = trainer.run();
  line.finish();
  if (result.stopped) return stopped(result);
  tell_loss(line, "validation", result.validation_loss);
  tell_loss(line, "test", result.test_loss);
  write_output(result.folder.string() + "\n");
  return 0;
}

}  // namespace mblm
