// Reads batches in advance.
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

// Reads batches for a model (read_batch) in threads of its own, so that a training step does not wait for files, image decoding and
// checks. Without threads, if the system refuses them, `next` reads. The batches and their order are given by the places and do not depend on the number of threads. Only one thread may call
// `next`.
class Prefetcher {
 public:
  // Returns the next place, or nothing at the end. The reading threads call it, one at a time.
  using NextPlace = std::function<std::optional<BatchPlace>()>;

  // `dataset` must outlive this object. At most 2 * threads batches are ready or being read.
  Prefetcher(const Dataset& dataset, const ModelConfig& model, NextPlace next_place, int threads = default_threads());
  // Waits for reads in progress.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Waits for the next batch and returns it; nothing after the last place. If reading a batch failed, rethrows the error in place of
  // the batch and returns nothing from then on.
  std::optional<Batch> next();

  // Total time that `next` has waited, in seconds.
  double waited_seconds() const { return waited_seconds_; }

  static int default_threads();  // half of the processors, at most 8

 private:
  struct Outcome {
    std::optional<Batch> batch;
    std::exception_ptr error;
  };
  void work();
  void read_next(std::unique_lock<std::mutex>& lock);
  Outcome read(const BatchPlace& place) const;
  std::optional<BatchPlace> claim(std::unique_lock<std::mutex>& lock, std::int64_t& number);
  void stop();

  const Dataset& dataset_;
  const ModelConfig model_;
  const NextPlace next_place_;
  const std::int64_t most_ahead_;
  double waited_seconds_ = 0;

  std::mutex mutex_;  // protects the members below
  std::condition_variable room_, ready_;
  std::map<std::int64_t, Outcome> outcomes_;  // by batch number
  std::int64_t claimed_ = 0, taken_ = 0;      // number of batches claimed by threads, returned by `next`
  bool at_end_ = false;                       // no more reads start: no places left, an error, or destruction
  std::vector<std::thread> threads_;
};

}  // namespace mblm
