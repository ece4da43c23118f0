#include "serve/scheduler.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <utility>

#include "engine/parallel.h"
#include "mblm/generate.h"
#include "mblm/stop_text.h"

namespace mblm {
namespace {

// Bytes of prompts to read between two steps. A step of others waits for them; without others, pieces may be longer.
constexpr std::int64_t shared_piece = 512, lone_piece = 1 << 13;
constexpr std::int64_t choices_per_tile = 4;  // choosing takes about 10 us
constexpr std::size_t queued_bodies = 32;  // bounds the memory of waiting prompts: their bytes, in bodies of the largest size

ScoredId scored(std::int64_t id, std::span<const float> logits, const std::optional<std::size_t>& likeliest) {
  ScoredId result{id};
  if (!likeliest) return result;
  result.log_probability = log_probability(logits, id);
  std::vector<std::int64_t> ids(logits.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i);
  const auto count = static_cast<std::ptrdiff_t>(std::min(*likeliest, ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](std::int64_t a, std::int64_t b) {
    const float left = logits[static_cast<std::size_t>(a)], right = logits[static_cast<std::size_t>(b)];
    return left != right ? left > right : a < b;
  });
  for (std::ptrdiff_t i = 0; i < count; ++i) result.likeliest.emplace_back(ids[static_cast<std::size_t>(i)], log_probability(logits, ids[static_cast<std::size_t>(i)]));
  return result;
}

}  // namespace

// A task and where its results go.
struct Scheduler::Ticket {
  Task task;
  std::shared_ptr<Outbox> outbox;
  std::size_t first_choice;
  Clock::time_point deadline;

  bool lost(Clock::time_point now) const { return outbox->abandoned() || now >= deadline; }
};

// A task whose prompt is being processed. The rows of its continuations are reserved.
struct Scheduler::Reading {
  std::shared_ptr<Ticket> ticket;
  Generator::Row row;
  std::size_t done = 0;  // bytes of the prompt

  bool read() const { return done == ticket->task.prompt.size(); }
};

// A continuation.
struct Scheduler::Writing {
  std::shared_ptr<Ticket> ticket;
  std::size_t number;  // of the task's continuations
  Generator::Row row;
  Sampler sampler;
  StopText stop;
  std::vector<ScoredId> held{};  // the ids that `stop` holds back
  std::int64_t chosen = 0;
  std::int64_t next = 0;  // the last id chosen, not processed yet
  Progress news{};        // of this step
};

Scheduler::Scheduler(const Model& model, const ServeLimits& limits) : model_(model), limits_(limits) {
  std::promise<void> ready;
  thread_ = std::thread([this, &ready, threads = thread_count()] {
    set_thread_count(threads);
    try {
      generator_ = std::make_unique<Generator>(model_);
    } catch (...) {
      ready.set_exception(std::current_exception());
      return;
    }
    ready.set_value();
    run();
  });
  try {
    ready.get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Scheduler::check(const Task& task) const {
  const ModelConfig& config = model_.config();
  require<ValueError>(task.continuations > 0 && task.continuations <= limits_.rows, "expected 1 to ", limits_.rows, " continuations of a prompt, got ",
                      task.continuations);
  for (const std::int64_t id : task.prompt)
    require<ValueError>(id >= 0 && id < config.num_tokens, "generate: expected ids in [0, ", config.num_tokens, "), got ", id);
  ids_to_add(config, std::ssize(task.prompt), task.count);
  check_sampling(task.sampling, config.num_tokens);
  [[maybe_unused]] const StopText valid(task.stop);
}

std::unique_ptr<Submission> Scheduler::submit(std::vector<Task> tasks, Clock::time_point deadline) {
  std::size_t choices = 0, bytes = 0;
  for (const Task& task : tasks) {
    check(task);
    choices += task.continuations;
    bytes += task.prompt.size();
  }
  require<ValueError>(choices <= std::max(limits_.rows, limits_.queue), "expected at most ", std::max(limits_.rows, limits_.queue), " continuations, got ", choices);
  const auto outbox = std::make_shared<Outbox>(choices);
  {
    const std::lock_guard lock(mutex_);
    require<ClosingError>(!closed_, "the server is shutting down");
    // Work that can start at once does not have to fit into the queue.
    const std::size_t room = limits_.queue + (limits_.rows - std::min<std::size_t>(limits_.rows, counts_.rows));
    require<BusyError>(queued_ + choices <= room, "the server is busy: ", queued_, " continuations are waiting");
    require<BusyError>(queued_bytes_ == 0 || queued_bytes_ + bytes <= queued_bodies * limits_.body, "the server is busy: long prompts are waiting");
    std::size_t first = 0;
    for (Task& task : tasks) {
      const std::size_t continuations = task.continuations;
      queue_.push_back(std::make_shared<Ticket>(Ticket{std::move(task), outbox, first, deadline}));
      first += continuations;
    }
    queued_ += choices;
    queued_bytes_ += bytes;
    counts_.waiting = queued_;
  }
  changed_.notify_all();
  return std::make_unique<Submission>(outbox);
}

void Scheduler::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Scheduler::idle() const {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && !computing_;
}

SchedulerCounts Scheduler::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void Scheduler::run() {
  while (wait_for_work()) {
    try {
      drop_lost();
      admit();
      read_prompts();
      write();
    } catch (const std::exception& error) {
      fail_everything(error.what());
    }
  }
  fail_everything("the server was shut down");
}

// Returns false when the scheduler is being destroyed.
bool Scheduler::wait_for_work() {
  std::unique_lock lock(mutex_);
  computing_ = !reading_.empty() || !writing_.empty();
  counts_.rows = used_rows_;
  changed_.wait(lock, [this] { return stopping_ || computing_ || !queue_.empty(); });
  computing_ = true;
  return !stopping_;
}

// Removes the work of clients that have gone and the work past its deadline.
void Scheduler::drop_lost() {
  const Clock::time_point now = Clock::now();
  const auto ended = [&](const Ticket& ticket) { return ticket.lost(now); };
  std::vector<std::shared_ptr<Ticket>> waiting;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(queue_, [&](const std::shared_ptr<Ticket>& ticket) {
      if (!ended(*ticket)) return false;
      queued_ -= ticket->task.continuations;
      queued_bytes_ -= ticket->task.prompt.size();
      waiting.push_back(ticket);
      return true;
    });
    counts_.waiting = queued_;
  }
  for (const auto& ticket : waiting) finish_all(*ticket, Finish::TimedOut);
  std::erase_if(reading_, [&](const std::unique_ptr<Reading>& reading) {
    if (!ended(*reading->ticket)) return false;
    finish_all(*reading->ticket, Finish::TimedOut);
    generator_->leave(reading->row);
    used_rows_ -= reading->ticket->task.continuations;
    return true;
  });
  std::erase_if(writing_, [&](const std::unique_ptr<Writing>& writing) {
    if (!ended(*writing->ticket)) return false;
    finish(*writing->ticket, writing->number, Finish::TimedOut);
    generator_->leave(writing->row);
    --used_rows_;
    return true;
  });
}

void Scheduler::admit() {
  while (true) {
    std::shared_ptr<Ticket> ticket;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty() || used_rows_ + queue_.front()->task.continuations > limits_.rows) break;
      ticket = std::move(queue_.front());
      queue_.pop_front();
      queued_ -= ticket->task.continuations;
      queued_bytes_ -= ticket->task.prompt.size();
      used_rows_ += ticket->task.continuations;
      counts_.waiting = queued_;
      counts_.rows = used_rows_;
    }
    const auto give_back = [&] { used_rows_ -= ticket->task.continuations; };
    if (ticket->task.count == 0 && !ticket->task.score_prompt) {
      finish_all(*ticket, Finish::Length);
      give_back();
      continue;
    }
    try {
      reading_.push_back(std::make_unique<Reading>(Reading{ticket, generator_->join()}));
    } catch (const std::exception& error) {
      finish_all(*ticket, Finish::Failed, error.what());
      give_back();
    }
  }
}

// Reads pieces of prompts, those of the longest wait first: each prompt one piece in turn, so that short ones do not wait for long ones.
// Prompts whose ids are scored are read by write().
void Scheduler::read_prompts() {
  std::int64_t budget = writing_.empty() && reading_.size() == 1 ? lone_piece : shared_piece;
  for (std::size_t turns = reading_.size(); turns > 0 && budget > 0; --turns) {
    std::unique_ptr<Reading> reading = std::move(reading_.front());
    reading_.pop_front();
    const Task& task = reading->ticket->task;
    try {
      if (!task.score_prompt) {
        const std::int64_t piece = std::min(budget, std::ssize(task.prompt) - static_cast<std::int64_t>(reading->done));
        budget -= piece;
        read(*reading, piece);
      }
      if (reading->read()) {
        begin_writing(*reading);
      } else {
        reading_.push_back(std::move(reading));
      }
    } catch (const std::exception& error) {
      finish_all(*reading->ticket, Finish::Failed, error.what());
      generator_->leave(reading->row);
      used_rows_ -= task.continuations;
    }
  }
}

void Scheduler::read(Reading& reading, std::int64_t bytes) {
  const auto piece = std::span(reading.ticket->task.prompt).subspan(reading.done, static_cast<std::size_t>(bytes));
  generator_->feed(reading.row, piece);
  reading.done += piece.size();
  const std::lock_guard lock(mutex_);
  counts_.prompt_bytes += piece.size();
}

// Replaces a prompt that has been read by its continuations. The prompt is computed once for all of them.
void Scheduler::begin_writing(Reading& reading) {
  const Task& task = reading.ticket->task;
  if (task.count == 0) {
    finish_all(*reading.ticket, Finish::Length);
    generator_->leave(reading.row);
    used_rows_ -= task.continuations;
    return;
  }
  std::vector<std::unique_ptr<Writing>> begun;
  const auto begin = [&](std::size_t number, Generator::Row row) {
    begun.push_back(std::make_unique<Writing>(Writing{reading.ticket, number, row,
                                                      Sampler(task.sampling, model_.config().num_tokens, static_cast<std::int64_t>(number)), StopText(task.stop)}));
    begun.back()->sampler.see(task.prompt);
  };
  begin(0, reading.row);
  try {
    if (task.continuations > 1) {
      const SequenceState after = generator_->snapshot(reading.row);
      for (std::size_t number = 1; number < task.continuations; ++number) begin(number, generator_->join(after));
    }
    writing_.reserve(writing_.size() + begun.size());
  } catch (...) {
    for (std::size_t number = 1; number < begun.size(); ++number) generator_->leave(begun[number]->row);
    throw;
  }
  for (auto& writing : begun) writing_.push_back(std::move(writing));
}

// Adds one id to each continuation, and one id of the prompt to each prompt that is scored, as one batch.
void Scheduler::write() {
  std::vector<Generator::Row> rows;
  std::vector<std::int64_t> ids;
  rows.reserve(reading_.size() + writing_.size());
  ids.reserve(reading_.size() + writing_.size());
  for (const auto& reading : reading_) {
    const Task& task = reading->ticket->task;
    if (!task.score_prompt || reading->read()) continue;
    rows.push_back(reading->row);
    ids.push_back(task.prompt[reading->done]);
    const ScoredId id = scored(ids.back(), generator_->logits(reading->row), task.likeliest);
    for (std::size_t number = 0; number < task.continuations; ++number)
      reading->ticket->outbox->add({.choice = reading->ticket->first_choice + number, .prompt = {id}});
    ++reading->done;
  }
  const std::size_t scored_rows = rows.size();
  parallel_tiles(std::ssize(writing_), choices_per_tile, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) choose(*writing_[static_cast<std::size_t>(i)]);
  });
  count(writing_);
  std::erase_if(writing_, [&](const std::unique_ptr<Writing>& writing) {
    const bool ended = writing->news.finish.has_value();
    writing->ticket->outbox->add(std::exchange(writing->news, {}));
    if (!ended) {
      rows.push_back(writing->row);
      ids.push_back(writing->next);
      return false;
    }
    generator_->leave(writing->row);
    --used_rows_;
    return true;
  });
  if (rows.empty()) return;
  generator_->step(rows, ids);  // after an exception all rows are given up
  const std::lock_guard lock(mutex_);
  ++counts_.steps;
  counts_.step_rows += rows.size();
  counts_.prompt_bytes += scored_rows;
}

// Counts what is new, before clients can receive it.
void Scheduler::count(std::span<const std::unique_ptr<Writing>> news) {
  const std::lock_guard lock(mutex_);
  for (const auto& writing : news) {
    counts_.generated_bytes += static_cast<std::uint64_t>(writing->news.generated);
    if (const std::optional<Finish> end = writing->news.finish) ++(*end == Finish::Failed ? counts_.failed : counts_.finished);
  }
}

// Chooses the next id of a continuation and writes down what is new. Runs on several threads at once, for different continuations.
void Scheduler::choose(Writing& writing) const {
  const Task& task = writing.ticket->task;
  Progress& news = writing.news;
  news.choice = writing.ticket->first_choice + writing.number;
  try {
    const std::span<const float> logits = generator_->logits(writing.row);
    writing.next = writing.sampler.choose(logits, generator_->length(writing.row));
    ++writing.chosen;
    writing.held.push_back(scored(writing.next, logits, task.likeliest));
    std::size_t free = writing.stop.push(writing.next).size();
    if (writing.stop.stopped() || writing.sampler.stops_at(writing.next)) {
      news.finish = Finish::Stop;
    } else if (writing.chosen == task.count) {
      news.finish = Finish::Length;
    }
    if (news.finish) free += writing.stop.flush().size();  // empty after a stop text
    const auto end = writing.held.begin() + static_cast<std::ptrdiff_t>(free);
    news.ids.assign(std::make_move_iterator(writing.held.begin()), std::make_move_iterator(end));
    news.generated = 1;
    writing.held.erase(writing.held.begin(), end);
  } catch (const std::exception& error) {
    news.finish = Finish::Failed;
    news.error = error.what();
  }
}

void Scheduler::finish(const Ticket& ticket, std::size_t number, Finish how, const std::string& error) {
  const bool abandoned = ticket.outbox->abandoned();
  {
    const std::lock_guard lock(mutex_);  // counts before the client can receive the end
    ++(abandoned ? counts_.abandoned : how == Finish::TimedOut ? counts_.timed_out : how == Finish::Failed ? counts_.failed : counts_.finished);
  }
  ticket.outbox->add({.choice = ticket.first_choice + number, .finish = how, .error = error});
}

void Scheduler::finish_all(const Ticket& ticket, Finish how, const std::string& error) {
  for (std::size_t number = 0; number < ticket.task.continuations; ++number) finish(ticket, number, how, error);
}

void Scheduler::fail_everything(const std::string& error) {
  std::deque<std::shared_ptr<Ticket>> waiting;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) std::swap(waiting, queue_);
  }
  for (const auto& ticket : waiting) finish_all(*ticket, Finish::Failed, error);
  for (const auto& reading : reading_) {
    finish_all(*reading->ticket, Finish::Failed, error);
    generator_->leave(reading->row);
  }
  for (const auto& writing : writing_) {
    finish(*writing->ticket, writing->number, Finish::Failed, error);
    generator_->leave(writing->row);
  }
  reading_.clear();
  writing_.clear();
  used_rows_ = 0;
}

}  // namespace mblm
