#include "engine/parallel.h"

#include <omp.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "engine/tiny_numbers.h"

namespace mblm {
namespace {

thread_local int wanted_threads = 0;   // 0: not set
thread_local bool inside_tile = false;  // this thread runs a tile, as caller or as helper

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Lets threads sleep until a condition holds. The thread that makes it hold calls wake() afterwards, which is cheap while nobody sleeps.
class Bell {
 public:
  // Polls `polls` times before it sleeps.
  template <class F>
  void wait(int polls, F&& holds) {
    if (!poll(polls, holds)) sleep(holds);
  }
  template <class F>
  static bool poll(int polls, F&& holds) {
    for (int i = 0; i < polls; ++i) {
      if (holds()) return true;
      pause_briefly();
    }
    return false;
  }
  template <class F>
  void sleep(F&& holds) {
    ++sleepers_;
    // A thread that looked for sleepers just before (wake_soon) is heard while this one still polls.
    if (!poll(100, holds))
      for (std::uint32_t seen = rings_; !holds(); seen = rings_) rings_.wait(seen);
    --sleepers_;
  }
  // A thread that starts to sleep at the same time either is seen here, or sees what was written before.
  void wake() {
    if (sleepers_.fetch_add(0) != 0) ring();
  }
  // The same without the guarantee, and without waiting for writes to reach the other threads; wake() must follow.
  void wake_soon() {
    if (sleepers_.load(std::memory_order_relaxed) != 0) ring();
  }

 private:
  void ring() {
    ++rings_;
    rings_.notify_all();
  }
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<std::uint32_t> rings_{0};
};

// Keeps signal handlers off the threads that are started during its lifetime: they run on the program's own threads only.
class HandlersHeldOff {
 public:
  HandlersHeldOff() {
    sigset_t signals;
    sigfillset(&signals);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&signals, fault);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~HandlersHeldOff() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  HandlersHeldOff(const HandlersHeldOff&) = delete;
  HandlersHeldOff& operator=(const HandlersHeldOff&) = delete;

 private:
  sigset_t before_{};
};

// The tiles of one participant of a job: [first, end) of job `job`. The owner takes tiles from the front, others from the back.
struct TileRange {
  static constexpr std::int64_t most_tiles = 65535;

  std::uint32_t job;
  std::int64_t first, end;

  bool is_empty() const { return first == end; }
  static TileRange unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<std::int64_t>(word >> 16 & most_tiles), static_cast<std::int64_t>(word & most_tiles)};
  }
  std::uint64_t pack() const { return static_cast<std::uint64_t>(job) << 32 | static_cast<std::uint64_t>(first) << 16 | static_cast<std::uint64_t>(end); }
};

// The helper threads of one calling thread. The caller also runs tiles, and waits for tiles in progress instead of threads:
// on a busy machine, a barrier over all threads would wait for a thread that is not scheduled.
// Each participant has an equal share of the tiles of a job and takes them from a word of its own, so that no cache line changes hands
// while there is work. Only a participant without tiles takes from the others, also from one that has not started: half of what is left.
class Workers {
 public:
  // Starts fewer threads when the system refuses one, because of a limit on threads or memory. Then a half of those that started end
  // again, since other parts of the program need threads and memory too.
  explicit Workers(int helpers) : wanted_(helpers), places_(static_cast<std::size_t>(helpers) + 1) {
    const HandlersHeldOff inherited;
    threads_.reserve(static_cast<std::size_t>(helpers));
    const auto start_thread = [this] {
      threads_.emplace_back([this, self = static_cast<std::int64_t>(threads_.size()) + 1, seen = current_.load()] { serve(self, seen); });
    };
    try {
      for (int i = 0; i < helpers; ++i) start_thread();
    } catch (const std::exception&) {
      const std::size_t kept = threads_.size() / 2;
      end_threads();
      try {
        while (threads_.size() < kept) start_thread();
      } catch (const std::exception&) {  // others started threads meanwhile
      }
    }
    participants_ = static_cast<std::int64_t>(threads_.size()) + 1;
  }
  ~Workers() { end_threads(); }
  int wanted() const { return wanted_; }
  int helpers() const { return static_cast<int>(threads_.size()); }

  void run(std::int64_t tiles, detail::TileFn run_tile, void* context) {
    const Clock::time_point start = Clock::now();
    if (start < rest_until_) {
      for (std::int64_t tile = 0; tile < tiles; ++tile) run_tile(context, tile);
      return;
    }
    for (std::int64_t first = 0; first < tiles; first += TileRange::most_tiles) {
      job_ = {run_tile, context, first};
      const std::int64_t count = std::min(tiles - first, TileRange::most_tiles);
      const std::uint32_t others = static_cast<std::uint32_t>(count - run_job(count));
      const auto all_finished = [&] { return finished_by_helpers() == others; };
      if (others != 0 && !Bell::poll(200, all_finished)) {
        const Clock::time_point done = Clock::now();
        finish_.sleep(all_finished);
        rest_if_late(done - start, Clock::now() - done);
      }
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  using Clock = std::chrono::steady_clock;

  // On a busy machine the system may take the processor from a helper in the middle of a tile, for some milliseconds. Then the caller of
  // short jobs is faster alone: it calls no helper for some time, twice as long each time that this happens again soon.
  void rest_if_late(Clock::duration worked, Clock::duration waited) {
    using namespace std::chrono_literals;
    if (waited < 200us || waited < 2 * worked || !preempted_.exchange(false)) return;
    const Clock::time_point now = Clock::now();
    const bool soon = now - rest_until_ < rest_;
    rest_ = std::min<Clock::duration>(std::max<Clock::duration>(32 * waited, soon ? 2 * rest_ : 0s), 1s);
    rest_until_ = now + rest_;
  }

  void end_threads() {
    stop_ = true;
    publish(0);
    start_.wake();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    stop_ = false;
  }

  // Returns the new job: its number and the range of all its tiles. The caller has its first tile already.
  TileRange publish(std::int64_t tiles) {
    const TileRange job{TileRange::unpack(current_.load(std::memory_order_relaxed)).job + 1, 0, tiles};
    TileRange own = share(job, 0);
    own.first = std::min<std::int64_t>(1, own.end);
    places_[0].range.store(own.pack(), std::memory_order_relaxed);
    current_.store(job.pack(), std::memory_order_release);
    return job;
  }

  // The caller's part of a job; returns the number of tiles that it ran. It runs its first tile while the other processors learn of the job.
  std::int64_t run_job(std::int64_t tiles) {
    const TileRange job = publish(tiles);
    start_.wake_soon();
    inside_tile = true;
    run_tile(0);
    start_.wake();
    const std::int64_t count = 1 + work(job, 0);
    inside_tile = false;
    return count;
  }

  // The tiles of a participant at the start of a job.
  TileRange share(const TileRange& job, std::int64_t participant) const {
    const std::int64_t each = job.end / participants_, more = job.end % participants_, first = participant * each + std::min(participant, more);
    return {job.job, first, first + each + (participant < more ? 1 : 0)};
  }

  // The tiles of `job` that are left to a participant, given the word in its Place. If the word is of an earlier job, nobody has taken a tile
  // of the share yet. Whoever takes one must replace exactly this word (compare_exchange): if that succeeds, the job has not ended, because
  // it ends only when all tiles are taken. If the word is of a later job, this job has ended. Job numbers repeat after 2^32 jobs; each helper
  // writes its word much more often.
  TileRange left(std::uint64_t word, const TileRange& job, std::int64_t participant) const {
    if (has_ended(word, job)) return {job.job, 0, 0};
    const TileRange range = TileRange::unpack(word);
    return range.job == job.job ? range : share(job, participant);
  }
  static bool has_ended(std::uint64_t word, const TileRange& job) { return static_cast<std::int32_t>(TileRange::unpack(word).job - job.job) > 0; }

  // Takes the next tile of a participant; -1: none is left.
  std::int64_t take_own(const TileRange& job, std::int64_t self) {
    std::atomic<std::uint64_t>& word = places_[static_cast<std::size_t>(self)].range;
    for (std::uint64_t seen = word;;) {
      TileRange range = left(seen, job, self);
      const std::int64_t tile = range.is_empty() ? -1 : range.first++;
      // Without tiles too, so that the word does not become too old; but not over the word of a later job.
      if (has_ended(seen, job) || seen == range.pack() || word.compare_exchange_weak(seen, range.pack())) return tile;
    }
  }

  // Moves tiles of another participant to `self`, which has none.
  bool take_from_others(const TileRange& job, std::int64_t self) {
    for (std::int64_t step = 1; step < participants_; ++step) {
      const std::int64_t other = (self + step) % participants_;
      std::atomic<std::uint64_t>& word = places_[static_cast<std::size_t>(other)].range;
      for (std::uint64_t seen = word;;) {
        TileRange range = left(seen, job, other);
        if (range.is_empty()) break;
        const TileRange taken{job.job, range.first + (range.end - range.first) / 2, range.end};
        range.end = taken.first;
        if (!word.compare_exchange_weak(seen, range.pack())) continue;
        places_[static_cast<std::size_t>(self)].range = taken.pack();
        return true;
      }
    }
    return false;
  }

  // Runs tiles of a job until none is left and returns their number.
  std::int64_t work(const TileRange& job, std::int64_t self) {
    std::int64_t count = 0;
    const Clock::time_point start = Clock::now();
    do {
      for (std::int64_t tile; (tile = take_own(job, self)) >= 0; ++count) run_tile(tile);
      if (self != 0) tell_finished(job, count, self, start);
    } while (take_from_others(job, self));
    return count;
  }

  // Reads job_, so the tile must be taken: then the caller waits for it.
  void run_tile(std::int64_t tile) {
    try {
      job_.run(job_.context, job_.first + tile);
    } catch (...) {
      const std::lock_guard lock(failure_mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void tell_finished(const TileRange& job, std::int64_t count, std::int64_t self, Clock::time_point start) {
    Place& place = places_[static_cast<std::size_t>(self)];
    if (count > 0 && Clock::now() - start > std::chrono::microseconds(200)) {
      rusage usage{};
      getrusage(RUSAGE_THREAD, &usage);
      if (usage.ru_nivcsw != place.switches) preempted_ = true;
      place.switches = usage.ru_nivcsw;
    }
    place.finished = static_cast<std::uint64_t>(job.job) << 32 | static_cast<std::uint64_t>(count);
    if (count > 0) finish_.wake();
  }

  std::uint32_t finished_by_helpers() const {
    const std::uint64_t job = current_.load(std::memory_order_relaxed) >> 32;
    std::uint32_t sum = 0;
    for (std::int64_t i = 1; i < participants_; ++i)
      if (const std::uint64_t word = places_[static_cast<std::size_t>(i)].finished; word >> 32 == job) sum += static_cast<std::uint32_t>(word);
    return sum;
  }

  void serve(std::int64_t self, std::uint64_t seen) {
    const TinyNumbersAsZero mode;
    omp_set_num_threads(1);  // libraries called within tiles use this thread only
    inside_tile = true;
    while (!stop_) {
      // Ops follow each other closely: a thread polls for the next job for some microseconds before it sleeps.
      start_.wait(2000, [&] { return current_.load(std::memory_order_acquire) != seen; });
      seen = current_;
      work(TileRange::unpack(seen), self);
    }
  }

  struct Job {
    detail::TileFn run = nullptr;
    void* context = nullptr;
    std::int64_t first = 0;  // added to the tiles of current_
  };
  struct alignas(64) Place {  // of a participant: the caller, then the helpers
    std::atomic<std::uint64_t> range{0};     // a TileRange
    std::atomic<std::uint64_t> finished{0};  // a job's number in the high 32 bits, and how many of its tiles this helper finished
    long switches = 0;                       // involuntary context switches of the helper so far
  };

  const int wanted_;
  alignas(64) std::atomic<std::uint64_t> current_{0};  // a job's number and the range of all its tiles
  Job job_;
  Bell start_, finish_;
  std::vector<Place> places_;
  std::int64_t participants_ = 1;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> preempted_{false};  // a helper lost its processor during a tile
  std::atomic<bool> stop_{false};
  Clock::time_point rest_until_{};  // used by the caller only
  Clock::duration rest_{0};
  std::vector<std::thread> threads_;
};

// The helpers of the calling thread, recreated when their number changes.
Workers& workers_of_this_thread(int helpers) {
  thread_local std::unique_ptr<Workers> workers;
  if (workers == nullptr || workers->wanted() != helpers) {
    workers.reset();
    workers = std::make_unique<Workers>(helpers);
  }
  return *workers;
}

}  // namespace

int thread_count() { return wanted_threads > 0 ? wanted_threads : omp_get_max_threads(); }
void set_thread_count(int threads) { wanted_threads = std::max(1, threads); }
int start_threads() { return thread_count() == 1 ? 1 : 1 + workers_of_this_thread(thread_count() - 1).helpers(); }

namespace detail {

void run_tiles(std::int64_t tiles, TileFn run, void* context) {
  const TinyNumbersAsZero mode;
  const int threads = inside_tile ? 1 : thread_count();
  if (tiles <= 1 || threads == 1) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) run(context, tile);
    return;
  }
  workers_of_this_thread(threads - 1).run(tiles, run, context);
}

}  // namespace detail
}  // namespace mblm
