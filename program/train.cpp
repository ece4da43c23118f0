// mblm train: trains a model from a configuration.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iomanip>
#include <string>
#include <utility>
#include <vector>

#include "engine/device_name.h"
#include "engine/parallel.h"
#include "program/interrupt.h"
#include "program/program.h"
#include "program/train.h"
#include "program/workers.h"
#include "train/run_header.h"

namespace mblm {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void note_loss(ProgressLine& line, const char* what, const std::optional<double>& loss) {
  if (loss) line.note(concat_text(what, ": loss ", std::setprecision(5), *loss, ", ", *loss / std::log(2.0), " bits per byte"));
}

const char* name_of_signal(int number) {
  for (const StopSignal& signal : stop_signals)
    if (signal.number == number) return signal.name;
  return "a signal";
}

int stopped(const TrainingResult& result, const Workers& workers) {
  const std::vector<int> signals = workers.exchange_values(InterruptScope::signal());
  const int signal = *std::max_element(signals.begin(), signals.end());
  if (workers.is_rank0())
    write_note(concat_text("stopped by ", name_of_signal(signal), " after step ", result.state.steps, "; resume with",
                           workers.is_alone() ? "" : concat_text(" ", workers.size(), " workers"), ": mblm resume ", result.folder.string()));
  return 128 + signal;
}

}  // namespace

Overrides with_compute_options(Overrides overrides, const ComputeOptions& options) {
  if (options.device) overrides.push_back("train.device=" + *options.device);
  if (options.precision) overrides.push_back("train.precision=" + *options.precision);
  return overrides;
}

TrainerOptions trainer_options(const RunConfig& config, const ComputeOptions& compute, ProgressLine& line, Communicator* communicator) {
  const int automatic = threads_of_worker(Workers(communicator));  // all workers must call this
  start_computing(compute.threads.value_or(automatic));
  std::function<void(const std::string&)> on_note;
  if (Workers(communicator).is_rank0()) on_note = write_note;
  const Device device = open_device(config.train.device, on_note, launched_process().local_rank);
  TrainerOptions options{.device = device, .communicator = communicator};
  if (on_note) note_precision(precision_named(config.train.precision, device), device);
  options.callbacks.on_progress = [&line](const TrainingProgress& progress) { line.show(progress_text(progress, line.width())); };
  options.callbacks.progress_interval = line.interval();
  options.callbacks.on_warning = [&line](const std::string& text) { line.note("mblm: warning: " + text); };
  options.callbacks.should_stop = [] { return InterruptScope::signal() != 0; };
  if (environment("MBLM_LOG") == "debug") options.callbacks.on_log = [&line](const std::string& text) { line.note(text); };
  return options;
}

int run_to_end(Trainer& trainer, ProgressLine& line, const Workers& workers) {
  const TrainingResult result = trainer.run();
  line.finish();
  if (result.stopped) return stopped(result, workers);
  if (!workers.is_rank0()) return 0;
  const std::int64_t skipped = result.state.skipped_steps;
  if (skipped > 0) line.note(concat_text(skipped, " of ", result.state.steps, " optimizer steps were skipped: their loss or gradient was not finite"));
  note_loss(line, "validation", result.validation_loss);
  note_loss(line, "test", result.test_loss);
  write_output(result.folder.string() + "\n");
  return 0;
}

void show_header(const Trainer& trainer, const Workers& workers, const ProgressLine& progress) {
  if (!workers.is_rank0()) return;
  std::string text;
  for (const std::string& line : fitted_lines(trainer.describe(), progress.width())) text += line + "\n";
  write_message(text);
}

int run(const TrainCommand& command) {
  return run_with_workers([&](Communicator* communicator) {
    const Workers workers(communicator);
    const RunConfig config = workers.together(
        [&] { return read_run_config(command.config, BlockRegistry(), with_compute_options(command.overrides, command.compute)); });
    ProgressLine line(STDERR_FILENO);
    const InterruptScope interrupt;
    TrainerOptions options = workers.together([&] { return trainer_options(config, command.compute, line, communicator); });
    options.job_id = environment("JOB_ID");
    options.dry_run = command.dry_run;
    Trainer trainer(config, DatasetRegistry(), std::move(options));
    show_header(trainer, workers, line);
    if (command.dry_run) return 0;
    return run_to_end(trainer, line, workers);
  });
}

}  // namespace mblm
