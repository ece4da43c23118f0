// Computes the continuations of many clients on one thread, as one batch whose members change between bytes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "mblm/generator.h"
#include "serve/serve_limits.h"
#include "serve/submission.h"

namespace mblm {

class BusyError : public Error { using Error::Error; };     // too much work is waiting
class ClosingError : public Error { using Error::Error; };  // no more work is taken

// Continuations and their bytes are counted before their clients receive them.
struct SchedulerCounts {
  std::uint64_t prompt_bytes = 0, generated_bytes = 0;                     // processed so far
  std::uint64_t steps = 0, step_rows = 0;                                  // batches, and the rows in them
  std::uint64_t finished = 0, abandoned = 0, timed_out = 0, failed = 0;    // continuations so far
  std::uint64_t rows = 0, waiting = 0;                                     // continuations now
};

// A continuation has the same bytes as alone (Generator), whoever else is served. Tasks start in the order of their arrival. A long
// prompt is read in pieces between the steps of the others. The model must outlive the scheduler.
class Scheduler {
 public:
  // Uses as many threads as the calling thread does. Throws ValueError for a masked language model.
  Scheduler(const Model& model, const ServeLimits& limits);
  ~Scheduler();  // ends what is being computed
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Adds tasks, all or none. At `deadline` they end with Finish::TimedOut. Throws BusyError, ClosingError, and ValueError for invalid
  // sampling options or stop texts, for ids outside the vocabulary or beyond a fixed context, and for more continuations than can run
  // (limits.rows in one task, limits.queue in all).
  std::unique_ptr<Submission> submit(std::vector<Task> tasks, std::chrono::steady_clock::time_point deadline);

  void close();  // from now on submit() throws ClosingError
  bool idle() const;
  SchedulerCounts counts() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Ticket;
  struct Reading;
  struct Writing;

  void check(const Task& task) const;
  void run();
  bool wait_for_work();
  void drop_lost();
  void admit();
  void read_prompts();
  void read(Reading& reading, std::int64_t bytes);
  void begin_writing(Reading& reading);
  void write();
  void count(std::span<const std::unique_ptr<Writing>> news);
  void choose(Writing& writing) const;
  void finish(const Ticket& ticket, std::size_t number, Finish finish, const std::string& error = {});
  void finish_all(const Ticket& ticket, Finish how, const std::string& error = {});
  void fail_everything(const std::string& error);

  const Model& model_;
  const ServeLimits limits_;

  // Used by the computing thread only.
  std::unique_ptr<Generator> generator_;
  std::deque<std::unique_ptr<Reading>> reading_;
  std::vector<std::unique_ptr<Writing>> writing_;
  std::size_t used_rows_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Ticket>> queue_;
  std::size_t queued_ = 0, queued_bytes_ = 0;  // continuations and bytes of prompts
  SchedulerCounts counts_;
  bool closed_ = false, stopping_ = false, computing_ = false;
  std::thread thread_;
};

}  // namespace mblm
