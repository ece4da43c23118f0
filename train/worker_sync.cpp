#include "train/worker_sync.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "train/immutable_fields.h"

namespace mblm {

void check_consistent(const Workers& workers, const RunConfig& config, std::int64_t sequences) {
  const std::vector<std::string> texts = workers.exchange(concat_text(to_yaml(config), "sequences: ", sequences, "\n"));
  for (std::size_t r = 0; r < texts.size(); ++r)
    require<ConfigError>(texts[r] == texts[0], "train: expected the same config and number of sequences on all workers, worker ", r, " differs: ",
                         differing_fields(texts[0], texts[r]));
}

WorkerSync::WorkerSync(const Workers& workers, std::function<bool()> should_stop, double save_every)
    : workers_(workers), should_stop_(std::move(should_stop)), save_every_(save_every) {}

bool WorkerSync::must_stop() {
  if (workers_.is_alone()) stopped_ = stopped_ || wants_to_stop();
  return stopped_;
}

bool WorkerSync::save_is_due() { return workers_.is_alone() ? save_interval_is_over() : std::exchange(save_agreed_, false); }

bool WorkerSync::save_interval_is_over() const {
  const std::chrono::duration<double> since = Clock::now() - saved_;
  return save_every_ > 0 && since.count() >= save_every_;
}

void WorkerSync::sync_step() {
  if (workers_.is_alone()) return;
  struct Report {
    bool stop, save, batch_without_loss;
  };
  const std::vector<Report> reports = workers_.exchange_values(Report{wants_to_stop(), save_interval_is_over(), has_batch_without_loss_});
  stopped_ = std::any_of(reports.begin(), reports.end(), [](const Report& report) { return report.stop; });
  save_agreed_ = reports.front().save;
  batch_without_loss_agreed_ = std::any_of(reports.begin(), reports.end(), [](const Report& report) { return report.batch_without_loss; });
}

bool WorkerSync::take_batch_without_loss() {
  if (batch_without_loss_taken_) return false;
  batch_without_loss_taken_ = workers_.is_alone() ? has_batch_without_loss_ : batch_without_loss_agreed_;
  return batch_without_loss_taken_;
}

}  // namespace mblm
