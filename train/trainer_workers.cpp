// What the workers of a run tell each other, and who of them writes.
#include <algorithm>
#include <utility>

#include "train/kept_fields.h"
#include "train/trainer.h"

namespace mblm {

// Workers that do not do the same would wait for each other in vain.
void Trainer::check_alike() const {
  require<DeviceError>(workers_.is_alone() || options_.device.kind == DeviceKind::Cpu, "train: expected the CPU with ", workers_.size(), " workers, got ",
                       options_.device);
  const std::vector<std::string> told = workers_.exchange(concat_text(to_yaml(config_), "sequences: ", data_.train->size(0), "\n"));
  for (std::size_t r = 0; r < told.size(); ++r)
    require<ConfigError>(told[r] == told[0], "train: expected the same config and as many sequences on all workers, found others on worker ", r, ": ",
                         differing_fields(told[0], told[r]));
}

// Nothing is written before all workers have opened what they need.
RunFolder Trainer::open_folder() const {
  check_alike();
  if (!workers_.is_first()) return RunFolder::for_reading(workers_.exchange().front());
  RunFolder folder = make_folder();
  workers_.exchange(folder.path());
  return folder;
}

RunFolder Trainer::make_folder() const {
  if (!options_.resume_folder.empty()) return RunFolder(options_.resume_folder);
  return RunFolder(config_.io, run_id_of(config_.io, options_.job_id, std::chrono::system_clock::now()));
}

// The others start from what the first worker has, between two groups.
void Trainer::share_start() {
  if (workers_.is_alone()) return;
  struct Start {
    TrainingState state;
    std::int64_t first_batch;
  };
  const Start start = workers_.exchange_values(Start{state_, first_batch_}).front();
  state_ = start.state;
  first_batch_ = start.first_batch;
  for (const NamedTensor& named : steps_.state_between_groups()) workers_.broadcast(named.tensor);
  model_->parameters().values_changed();
}

void Trainer::share_parameters() {
  workers_.broadcast(model_->parameters().values());
  model_->parameters().values_changed();
}

// Nobody goes on before the first worker has written.
void Trainer::by_first(const std::function<void()>& write) {
  if (workers_.is_first()) write();
  workers_.exchange();
}

// At an optimizer step: what is to be done when the step is taken.
void Trainer::exchange_news() {
  if (workers_.is_alone()) return;
  write_pending_rows();
  struct News {
    bool stop, save;
  };
  const std::vector<News> all = workers_.exchange_values(News{wants_to_stop(), state_time_is_over()});
  stopped_ = std::any_of(all.begin(), all.end(), [](const News& news) { return news.stop; });
  state_due_ = all.front().save;
}

bool Trainer::state_is_due() { return workers_.is_alone() ? state_time_is_over() : std::exchange(state_due_, false); }

bool Trainer::state_time_is_over() const {
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - state_saved_;
  return config_.train.save_state_every > 0 && since.count() >= config_.train.save_state_every;
}

}  // namespace mblm
