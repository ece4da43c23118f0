// Synchronizes the decisions of workers at optimizer steps: when to stop and when to save.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "mblm/config/config.h"
#include "train/workers.h"

namespace mblm {

// Workers with different configs would deadlock. Throws ConfigError, naming the fields, if the configs or the numbers of training
// sequences differ.
void check_consistent(const Workers& workers, const RunConfig& config, std::int64_t sequences);

// A single worker decides before each micro-step. Several workers decide together at each optimizer step, because between steps each
// one has its own accumulated gradients, which a state does not contain.
class WorkerSync {
 public:
  // `should_stop` is optional. A state is due `save_every` seconds after the last one; 0 means never.
  WorkerSync(const Workers& workers, std::function<bool()> should_stop, double save_every);

  // Calls should_stop of this worker, without communication.
  bool wants_to_stop() const { return should_stop_ && should_stop_(); }
  // Whether all workers must stop before the next micro-step. Once true, remains true.
  bool must_stop();
  void stop() { stopped_ = true; }  // call only if all workers do
  bool stopped() const { return stopped_; }

  void restart_save_interval() { saved_ = Clock::now(); }
  // Whether the state must be saved before the next micro-step.
  bool save_is_due();

  // At an optimizer step: exchanges the requests to stop and to save, and the reports of batches without loss.
  void sync_step();

  // A micro-batch of this worker had no byte that counts in the loss.
  void report_batch_without_loss() { has_batch_without_loss_ = true; }
  // Whether a worker reported one until the last optimizer step; alone, until now. True once at most.
  bool take_batch_without_loss();

 private:
  using Clock = std::chrono::steady_clock;
  bool save_interval_is_over() const;

  const Workers& workers_;
  const std::function<bool()> should_stop_;
  const double save_every_;
  Clock::time_point saved_ = Clock::now();  // time of the last state, or of the start
  bool stopped_ = false;
  bool save_agreed_ = false;
  bool has_batch_without_loss_ = false, batch_without_loss_agreed_ = false, batch_without_loss_taken_ = false;
};

}  // namespace mblm
