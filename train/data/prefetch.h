// Batches that are ready before they are asked for.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "train/data/dataset.h"

namespace mblm {

// Threads that read batches for a model ahead (read_batch), so that a training step does not wait for files, images and checks. The batches and their order
// are those of the places, for any number of threads. For one thread that takes the batches.
class Prefetcher {
 public:
  // The places one after the other, none at the end. Called from the reading threads, by one at a time.
  using NextPlace = std::function<std::optional<BatchPlace>()>;

  // `dataset` must live as long. 2 * threads batches at most are ready or on their way.
  Prefetcher(const Dataset& dataset, const ModelConfig& model, NextPlace next_place, int threads = default_threads());
  // Waits for reads that have begun.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next batch, which it waits for where it is not ready; none after the last place. An error in reading a batch is thrown
  // in that batch's turn, as it was; after that there are no batches.
  std::optional<Batch> next();

  // How long `next` has waited so far, in seconds.
  double waited_seconds() const { return waited_seconds_; }

  static int default_threads();  // half of the processors, at most 8

 private:
  struct Outcome {
    std::optional<Batch> batch;
    std::exception_ptr error;
  };
  void work();
  Outcome read(const BatchPlace& place) const;
  std::optional<BatchPlace> claim(std::unique_lock<std::mutex>& lock, std::int64_t& number);
  void stop();

  const Dataset& dataset_;
  const ModelConfig model_;
  const NextPlace next_place_;
  const std::int64_t most_ahead_;
  double waited_seconds_ = 0;

  std::mutex mutex_;  // of all that follows
  std::condition_variable room_, ready_;
  std::map<std::int64_t, Outcome> outcomes_;  // by the number of the batch
  std::int64_t claimed_ = 0, taken_ = 0;      // batches whose reading began, that were given out
  bool at_end_ = false;                       // nothing more is read: the places ended, something failed, or it is over
  std::vector<std::thread> threads_;
};

}  // namespace mblm
