// What the workers of a run agree on between two optimizer steps: when to stop, when to save.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "engine/device.h"
#include "mblm/config/config.h"
#include "train/workers.h"

namespace mblm {

// Workers that do different things would deadlock. Throws ConfigError, naming the fields, when the configs or the sequences of
// the training data differ, and DeviceError for several workers on a GPU.
void check_consistent(const Workers& workers, const RunConfig& config, Device device, std::int64_t sequences);

// A single worker decides before each micro-step, several ones decide together at each optimizer step: between two of them each
// has gradients of its own, which no state holds.
class WorkerSync {
 public:
  // `should_stop` is the caller's and may be empty. A state is due `save_every` seconds after the last one; 0: never.
  WorkerSync(const Workers& workers, std::function<bool()> should_stop, double save_every);

  // Asks the caller whether this worker is to stop. Others do not learn of it.
  bool wants_to_stop() const { return should_stop_ && should_stop_(); }
  // Whether all workers stop before the next micro-step; once true it stays true.
  bool must_stop();
  void stop() { stopped_ = true; }  // as the workers have agreed elsewhere
  bool stopped() const { return stopped_; }

  void restart_save_interval() { saved_ = Clock::now(); }
  // Whether the state must be saved before the next micro-step.
  bool save_is_due();

  // At an optimizer step: exchanges the requests to stop and to save.
  void sync_step();

 private:
  using Clock = std::chrono::steady_clock;
  bool save_interval_is_over() const;

  const Workers& workers_;
  const std::function<bool()> should_stop_;
  const double save_every_;
  Clock::time_point saved_ = Clock::now();  // the last state, or the start
  bool stopped_ = false;
  bool save_agreed_ = false;
};

}  // namespace mblm
