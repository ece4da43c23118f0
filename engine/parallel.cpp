#include "engine/parallel.h"

#include <omp.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
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

// One call of run_tiles. Threads claim tiles one by one, so a thread that starts late or never only leaves more tiles to the rest.
struct Job {
  Job(detail::TileFn run_tile, void* its_context, std::int64_t count) : run(run_tile), context(its_context), tiles(count) {}

  detail::TileFn run;
  void* context;
  std::int64_t tiles;
  std::atomic<std::int64_t> next{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;

  void work() {
    inside_tile = true;
    for (std::int64_t tile; (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
      try {
        run(context, tile);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
      }
    }
    inside_tile = false;
  }
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

  void run(Job& job) {
    const Clock::time_point start = Clock::now();
    if (start < rest_until_) return job.work();
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
    }
    announce();
    job.work();
    const Clock::time_point done = Clock::now();
    {
      const std::lock_guard lock(mutex_);
      job_ = nullptr;  // no helper can join from here on
    }
    for (int i = 0; i < 200 && active_.load(std::memory_order_acquire) != 0; ++i) pause_briefly();
    {
      std::unique_lock lock(mutex_);
      idle_.wait(lock, [this] { return active_ == 0; });
    }
    rest_if_late(done - start, Clock::now() - done);
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
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    announce();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    stop_ = false;
  }

  void announce() {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

  // Ops follow each other closely: a thread polls for the next call for some microseconds before it sleeps.
  void wait_for_round_after(std::uint32_t seen) const {
    for (int i = 0; i < 2000; ++i) {
      if (round_.load(std::memory_order_acquire) != seen) return;
      pause_briefly();
    }
    round_.wait(seen, std::memory_order_acquire);
  }

  void serve() {
    const TinyNumbersAsZero mode;
    omp_set_num_threads(1);  // libraries called within tiles use this thread only
    long switches = 0;  // involuntary context switches of this thread so far
    for (std::uint32_t seen = 0;;) {
      wait_for_round_after(seen);
      Job* job = nullptr;
      {
        const std::lock_guard lock(mutex_);
        seen = round_.load(std::memory_order_relaxed);
        if (stop_) return;
        job = job_;
        if (job != nullptr) ++active_;
      }
      if (job == nullptr) continue;
      const Clock::time_point start = Clock::now();
      job->work();
      if (Clock::now() - start > std::chrono::microseconds(200)) {
        rusage usage{};
        getrusage(RUSAGE_THREAD, &usage);
        if (usage.ru_nivcsw != switches) preempted_ = true;
        switches = usage.ru_nivcsw;
      }
      const std::lock_guard lock(mutex_);
      if (--active_ == 0) idle_.notify_one();
    }
  }

  const int wanted_;
  std::atomic<std::uint32_t> round_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  Job* job_ = nullptr;
  std::atomic<int> active_{0};
  std::atomic<bool> preempted_{false};  // a helper lost its processor during a tile
  Clock::time_point rest_until_{};      // used by the caller only
  Clock::duration rest_{0};
  bool stop_ = false;
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
  Job job(run, context, tiles);
  workers_of_this_thread(threads - 1).run(job);
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace detail
}  // namespace mblm
