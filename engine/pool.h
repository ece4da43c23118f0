// Memory of one device, kept for reuse: after the first steps of a training run no step asks the system for memory.
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
  std::size_t used_bytes = 0;          // handed out now
  std::size_t peak_used_bytes = 0;     // most that was handed out at once
  std::size_t held_bytes = 0;          // taken from the system, used or kept for reuse
  std::size_t peak_held_bytes = 0;
  std::uint64_t system_allocations = 0;  // requests to the system so far
};

// Thread-safe. Blocks come in size classes (multiples of 256 bytes up to 4 KiB, then eighths of a power of two), and a
// released block serves only its own class, so that a step with repeating shapes finds the blocks of the step before.
class MemoryPool {
 public:
  explicit MemoryPool(Device device) : device_(device) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // At least `bytes` bytes, 64-byte aligned. Throws MemoryError with what was asked and what is held when there are none.
  void* allocate(std::size_t bytes);
  void release(void* data) noexcept;
  void release_cached();  // gives blocks that are not in use back to the system
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

// The pool that new tensors of this thread come from: that of the innermost PoolScope for the device, else one that the process shares.
std::shared_ptr<MemoryPool> current_pool(Device device);

// While it lives, new tensors of this thread on the pool's device come from `pool`.
class PoolScope {
 public:
  explicit PoolScope(std::shared_ptr<MemoryPool> pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;
};

}  // namespace mblm
