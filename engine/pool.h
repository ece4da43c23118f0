// Memory of one device, kept for reuse: after the first steps of a training run, no step allocates from the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/device.h"

namespace mblm {

struct PoolStatistics {
  std::size_t used_bytes = 0;          // in use now
  std::size_t peak_used_bytes = 0;     // the maximum of used_bytes
  std::size_t held_bytes = 0;          // allocated from the system, in use or kept for reuse
  std::size_t peak_held_bytes = 0;
  std::uint64_t system_allocations = 0;  // allocations from the system so far
};

// Thread-safe. Blocks have size classes (multiples of 256 bytes up to 4 KiB, then eighths of a power of two), and a released
// block is reused only for its own class, so that a step with repeating shapes finds the blocks of the previous step.
class MemoryPool {
 public:
  explicit MemoryPool(Device device) : device_(device) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // Returns at least `bytes` bytes, 64-byte aligned. Throws MemoryError with the requested and the used bytes when out of memory.
  void* allocate(std::size_t bytes);
  void release(void* data) noexcept;
  void release_cached();  // returns unused blocks to the system
  PoolStatistics statistics() const;
  Device device() const { return device_; }

 private:
  void drop_free_blocks();

  const Device device_;
  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> free_;
  std::unordered_map<void*, std::size_t> sizes_;  // of the blocks in use
  PoolStatistics statistics_;
};

// The pool for new tensors of this thread: the pool of the innermost PoolScope for the device, else one shared by the process.
std::shared_ptr<MemoryPool> current_pool(Device device);

// Allocates new tensors of this thread on the pool's device from `pool` during its lifetime.
class PoolScope {
 public:
  explicit PoolScope(std::shared_ptr<MemoryPool> pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;
};

}  // namespace mblm
