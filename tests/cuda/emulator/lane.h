// The emulator as kernels see it: the lane that runs, and everything that lanes of a block do together. cuda_runtime.h and
// cuda/tensor_core.h give these functions the names of CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

// Functions that access memory for a kernel, but are not accesses of their own to the access checker.
#ifdef __SANITIZE_THREAD__
#define EMULATOR_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#else
#define EMULATOR_UNSEEN
#endif

namespace emulator {

using Where = std::source_location;  // as a default argument: the line of the caller

struct Dim {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
  constexpr std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

inline constexpr unsigned warp_lanes = 32;

struct PendingCopy {
  void* to;
  const void* from;
  int bytes, filled;  // `filled` bytes are copied, the others become zero
};

struct Fiber;
struct Warp;

// One thread of the block that runs.
struct alignas(64) Lane {
  enum State { Ready, AtBarrier, AtWarp, Done };

  // What every switch needs, in one line of the cache.
  Dim thread{0, 0, 0};
  unsigned index = 0;  // within the block
  unsigned lane = 0;   // within the warp
  State state = Done;
  Warp* warp = nullptr;
  Fiber* fiber = nullptr;     // null before the first statement and after the last
  Where where;                // of the barrier or warp operation where it waits
  const void* tag = nullptr;  // identifies the warp operation
  unsigned mask = 0;

  std::vector<PendingCopy> copies;  // asynchronous copies since the last full wait, oldest first
  std::vector<std::size_t> groups;  // for each committed group, the number of copies up to its end
  std::size_t copies_made = 0, groups_made = 0;
  std::uint32_t clock[warp_lanes];  // access checker: the last accesses of each lane that this one is ordered after
};

struct Warp {
  Lane* lanes[warp_lanes] = {};
  unsigned present = 0, waiting = 0, done = 0;  // bit masks
  const void* in[warp_lanes] = {};
  void* out[warp_lanes] = {};
};

// The lane that runs on this thread; null in host code. Fibers never change their thread.
extern constinit thread_local Lane* current __attribute__((tls_model("initial-exec")));
extern Dim block_index, block_size, grid_size;

// Ends the launch with an error that names the kernel, the block, the thread and the line. In host code it throws.
[[noreturn]] void fail(const std::string& what, const Where& where);

// __syncthreads. All threads of the block must come, to the same line.
void barrier(const Where& where);

// A warp operation: the lanes of `mask` meet, and the last to come calls compute(in, out) for all. The arrays have an entry per
// lane, null for lanes outside of the mask. All must come to the same line with the same mask and tag.
using Compute = void (*)(const void* const* in, void* const* out, const Where& where);
void meet(const void* tag, const char* name, unsigned mask, const void* in, void* out, Compute compute, bool orders_memory, const Where& where);

// The block's shared memory. It holds NaN when a block starts and ends at a page that cannot be accessed.
void* shared_memory(std::size_t bytes, std::size_t alignment, const Where& where);
bool is_shared(const void* p, std::size_t bytes);

// cp.async: the target holds NaN until this lane has waited for the copy, which is made then.
void copy_async(void* to, const void* from, int bytes, int filled, const Where& where);
void commit_copies();
void wait_copies(std::size_t newest, const Where& where);  // until at most `newest` groups are pending

// The instructions behind the functions of cuda/tensor_core.h with these names; `count` matrices: 2 or 4.
void mma_16x8x16(float* c, const std::uint32_t* a, const std::uint32_t* b, const Where& where);
void load_matrices(std::uint32_t* r, const void* row, unsigned count, bool transposed, const Where& where);
void transpose_8x8(std::uint32_t* y, std::uint32_t x, const Where& where);

void check_aligned(const void* p, std::size_t alignment, const Where& where);

// Report accesses of the running lane to the access checker. Without effect in unchecked builds.
void note_read(const void* p, std::size_t bytes, const Where& where = Where::current());
void note_write(const void* p, std::size_t bytes, const Where& where = Where::current());
void note_atomic(const void* p, std::size_t bytes, const Where& where = Where::current());

}  // namespace emulator
