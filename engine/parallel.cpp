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

// Lets threads sleep until a condition holds. The thread that makes it hold calls wake(), which is one load while nobody sleeps.
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
    for (std::uint32_t seen = rings_; !holds(); seen = rings_) rings_.wait(seen);
    --sleepers_;
  }
  void wake() {
    if (sleepers_ == 0) return;
    ++rings_;
    rings_.notify_all();
  }

 private:
  std::atomic<std::uint32_t> rings_{0};
  std::atomic<int> sleepers_{0};
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

// The helper threads of one calling thread. The caller also runs tiles, and waits for tiles in progress instead of threads:
// on a busy machine, a barrier over all threads would wait for a thread that is not scheduled.
class Workers {
 public:
  // Starts fewer threads when the system refuses one, because of a limit on threads or memory. Then a half of those that started end
  // again, since other parts of the program need threads and memory too.
  explicit Workers(int helpers) : wanted_(helpers) {
    const HandlersHeldOff inherited;
    threads_.reserve(static_cast<std::size_t>(helpers));
    try {
      for (int i = 0; i < helpers; ++i) threads_.emplace_back([this] { serve(); });
    } catch (const std::exception&) {
      const std::size_t kept = threads_.size() / 2;
      end_threads();
      try {
        while (threads_.size() < kept) threads_.emplace_back([this] { serve(); });
      } catch (const std::exception&) {  // others started threads meanwhile
      }
    }
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
    job_ = {run_tile, context, tiles};
    finished_.store(0, std::memory_order_relaxed);
    publish(tiles);
    const std::int64_t others = tiles - work();
    const auto all_finished = [&] { return finished_ == others; };
    if (others != 0 && !Bell::poll(200, all_finished)) {
      const Clock::time_point done = Clock::now();
      finish_.sleep(all_finished);
      rest_if_late(done - start, Clock::now() - done);
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
    rest_ = std::min<Clock::duration>(std::max<Clock::duration>(8 * waited, soon ? 2 * rest_ : 0s), 1s);
    rest_until_ = now + rest_;
  }

  void end_threads() {
    stop_ = true;
    publish(0);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    stop_ = false;
  }

  // claims_ holds the number of the job in its high bits and, below, `no_tiles` plus the number of its tiles that no thread has taken. One
  // subtraction takes a tile. It may go below no_tiles, once for each thread that looks for a tile and finds none.
  static constexpr std::uint64_t one_job = std::uint64_t{1} << 44, no_tiles = std::uint64_t{1} << 20;
  static std::uint64_t job_number(std::uint64_t claims) { return claims / one_job; }

  void publish(std::int64_t tiles) {
    claims_ = (job_number(claims_.load(std::memory_order_relaxed)) + 1) * one_job + no_tiles + static_cast<std::uint64_t>(tiles);
    start_.wake();
  }

  // Runs tiles until none is left and returns their number. Reads job_ only after it took a tile: then the caller waits for that tile.
  std::int64_t work(std::uint64_t* number = nullptr) {
    inside_tile = true;
    std::int64_t count = 0;
    for (std::int64_t left = 0; left != 1;) {
      const std::uint64_t claims = claims_.fetch_sub(1);
      if (number != nullptr) *number = job_number(claims);
      left = static_cast<std::int64_t>(claims % one_job) - static_cast<std::int64_t>(no_tiles);
      if (left <= 0) break;
      try {
        job_.run(job_.context, job_.tiles - left);
      } catch (...) {
        const std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
      ++count;
    }
    inside_tile = false;
    return count;
  }

  void serve() {
    const TinyNumbersAsZero mode;
    omp_set_num_threads(1);  // libraries called within tiles use this thread only
    long switches = 0;  // involuntary context switches of this thread so far
    for (std::uint64_t seen = 0;;) {
      // Ops follow each other closely: a thread polls for the next job for some microseconds before it sleeps.
      start_.wait(2000, [&] { return job_number(claims_) != seen; });
      const Clock::time_point start = Clock::now();
      const std::int64_t count = work(&seen);
      if (count == 0) {
        if (stop_) return;
        continue;
      }
      if (Clock::now() - start > std::chrono::microseconds(200)) {
        rusage usage{};
        getrusage(RUSAGE_THREAD, &usage);
        if (usage.ru_nivcsw != switches) preempted_ = true;
        switches = usage.ru_nivcsw;
      }
      finished_ += count;
      finish_.wake();
    }
  }

  struct Job {
    detail::TileFn run = nullptr;
    void* context = nullptr;
    std::int64_t tiles = 0;
  };

  const int wanted_;
  // A helper needs one cache line to learn of a job and one to tell that its tiles are finished.
  alignas(64) std::atomic<std::uint64_t> claims_{0};
  Job job_;
  alignas(64) std::atomic<std::int64_t> finished_{0};  // tiles of the job that helpers ran
  Bell finish_;
  alignas(64) Bell start_;
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
