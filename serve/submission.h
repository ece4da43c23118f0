// What clients give to the scheduler, and how they get its results.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mblm/sample.h"

namespace mblm {

// A prompt and what to compute for it.
struct Task {
  std::vector<std::int64_t> prompt;
  std::int64_t count = 0;              // ids to add, at most
  std::size_t continuations = 1;       // number k uses the random numbers of sequence k (Sampler)
  SamplingOptions sampling{};
  std::vector<std::string> stop{};     // texts that end a continuation and are removed
  std::optional<std::size_t> likeliest{};  // set: with log-probabilities, and those of that many of the likeliest ids
  bool score_prompt = false;           // also computes the log-probabilities of the prompt's ids
};

// An id of a prompt or of a continuation. Log-probabilities are the model's, in nats, without sampling options.
struct ScoredId {
  std::int64_t id = 0;
  double log_probability = 0;                                // 0 unless Task::likeliest is set
  std::vector<std::pair<std::int64_t, double>> likeliest{};  // in descending order
};

enum class Finish { Length, Stop, TimedOut, Failed };

// What is new in a continuation.
struct Progress {
  std::size_t choice = 0;          // the continuations of a submission are numbered, task by task
  std::vector<ScoredId> prompt{};  // with Task::score_prompt
  std::vector<ScoredId> ids{};     // without the stop text
  std::int64_t generated = 0;      // ids that were chosen, including those of a stop text
  std::optional<Finish> finish{};
  std::string error{};             // of Finish::Failed
};

// Holds the results that a client has not collected. Its size is bounded by what the client asked for, so that the computation never
// waits for a client. Thread-safe.
class Outbox {
 public:
  explicit Outbox(std::size_t choices) : news_(choices), unfinished_(choices) {}

  void add(Progress more);
  // Waits at most `patience` for news, or, with `whole`, for the end of all choices. Returns what is new, without it an empty list.
  std::vector<Progress> wait(std::chrono::milliseconds patience, bool whole);
  bool finished() const;

  void abandon() { abandoned_ = true; }
  bool abandoned() const { return abandoned_; }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Progress> news_;  // per choice
  std::size_t unfinished_;
  bool fresh_ = false, waits_for_all_ = false;
  std::atomic<bool> abandoned_ = false;
};

// The client's end of its tasks. The destructor ends what is still being computed.
class Submission {
 public:
  explicit Submission(std::shared_ptr<Outbox> outbox) : outbox_(std::move(outbox)) {}
  ~Submission() { outbox_->abandon(); }
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;

  std::vector<Progress> wait(std::chrono::milliseconds patience, bool whole = false) { return outbox_->wait(patience, whole); }
  // Whether all choices have ended and everything has been returned.
  bool finished() const { return outbox_->finished(); }

 private:
  std::shared_ptr<Outbox> outbox_;
};

}  // namespace mblm
