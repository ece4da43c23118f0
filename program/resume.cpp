// mblm resume: resumes a run from its last full state.
#include <unistd.h>

#include <utility>

#include "program/interrupt.h"
#include "program/program.h"
#include "program/train.h"
#include "program/workers.h"
#include "train/run_folder.h"

namespace mblm {

int run(const ResumeCommand& command) {
  return run_with_workers([&](Communicator* communicator) {
    const Workers workers(communicator);
    const RunConfig config = workers.together(
        [&] { return read_config_of_run(command.run, BlockRegistry(), with_compute_options(command.overrides, command.compute)); });
    ProgressLine line(STDERR_FILENO);
    const InterruptScope interrupt;
    TrainerOptions options = workers.together([&] { return trainer_options(config, command.compute, line, communicator); });
    options.resume_folder = command.run;
    options.accept_changed_data = command.accept_changed_data;
    Trainer trainer(config, DatasetRegistry(), std::move(options));
    show_header(trainer, workers, line);
    return run_to_end(trainer, line, workers);
  });
}

}  // namespace mblm
