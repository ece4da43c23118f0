#include "train/data/prefetch.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace mblm {

int Prefetcher::default_threads() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 2, 1, 8); }

Prefetcher::Prefetcher(const Dataset& dataset, const ModelConfig& model, NextPlace next_place, int threads)
    : dataset_(dataset), model_(model), next_place_(std::move(next_place)), most_ahead_(2 * threads) {
  require<ValueError>(threads >= 1, "prefetch: expected at least one thread, got ", threads);
  threads_.reserve(static_cast<std::size_t>(threads));
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::exception&) {  // the system refuses more threads: those that started suffice, or `next` reads
  }
}

Prefetcher::~Prefetcher() { stop(); }

void Prefetcher::stop() {
  {
    const std::lock_guard lock(mutex_);
    at_end_ = true;
  }
  room_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  std::int64_t number = 0;
  while (const std::optional<BatchPlace> place = claim(lock, number)) {
    lock.unlock();
    Outcome outcome = read(*place);
    lock.lock();
    if (outcome.error) at_end_ = true;
    outcomes_[number] = std::move(outcome);
    ready_.notify_one();
  }
  ready_.notify_one();  // `next` also waits for the end
  room_.notify_all();   // wakes threads that wait for room, so that they finish
}

// Waits for room, then returns the next place and its batch number; nothing at the end.
std::optional<BatchPlace> Prefetcher::claim(std::unique_lock<std::mutex>& lock, std::int64_t& number) {
  room_.wait(lock, [this] { return at_end_ || claimed_ - taken_ < most_ahead_; });
  if (at_end_) return {};
  number = claimed_;
  try {
    if (std::optional<BatchPlace> place = next_place_()) {
      ++claimed_;
      return place;
    }
  } catch (...) {
    outcomes_[claimed_++] = {{}, std::current_exception()};
  }
  at_end_ = true;
  return {};
}

// Reads the next batch in this thread.
void Prefetcher::read_next(std::unique_lock<std::mutex>& lock) {
  std::int64_t number = 0;
  const std::optional<BatchPlace> place = claim(lock, number);
  if (place) outcomes_[number] = read(*place);
}

Prefetcher::Outcome Prefetcher::read(const BatchPlace& place) const {
  try {
    return {read_batch(dataset_, place, model_), nullptr};
  } catch (...) {
    return {{}, std::current_exception()};
  }
}

std::optional<Batch> Prefetcher::next() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  if (threads_.empty()) read_next(lock);
  ready_.wait(lock, [this] { return outcomes_.count(taken_) != 0 || (at_end_ && taken_ == claimed_); });
  waited_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (taken_ == claimed_) return {};
  auto entry = outcomes_.extract(taken_++);
  room_.notify_one();
  if (!entry.mapped().error) return std::move(entry.mapped().batch);
  taken_ = claimed_;  // drops the batches after the failed one
  outcomes_.clear();
  at_end_ = true;
  std::rethrow_exception(entry.mapped().error);
}

}  // namespace mblm
