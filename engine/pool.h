// Memory of one device, kept for reuse: after the first steps of a training run, no step allocates from the system.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "engine/device.h"

namespace mblm {

struct PoolStatistics {
  std::size_t used_bytes = 0;          // in use now
  std::size_t peak_used_bytes = 0;     // the maximum of used_bytes
  std::size_t held_bytes = 0;          // allocated from the system, in use or kept for reuse
  std::size_t peak_held_bytes = 0;
  std::uint64_t system_allocations = 0;  // allocations from the system so far
};

// Memory that a pool lends.
struct PoolBlock {
  void* data;                  // 64-byte aligned
  std::size_t size;            // bytes, of the size class
  std::size_t list;            // the pool's: number of the size class
  PoolBlock* next = nullptr;   // the block of its class that was released before it
  std::uint64_t released = 0;  // time of the release, in releases of the pool
};

// Thread-safe. Blocks have size classes (multiples of 256 bytes up to 4 KiB, then eighths of a power of two), and a released
// block is reused only for its own class, so that a step with repeating shapes finds the blocks of the previous step. The order of
// the device's work makes reuse safe: a block is used again by later work of the compute stream.
class MemoryPool {
 public:
  // Bounded: before an allocation from the system, returns the blocks released longest ago while more would be held than twice the
  // peak use (but at least `kept_bytes`). Growing lengths therefore do not collect blocks of all earlier lengths. All: returns blocks
  // only in release_cached and the destructor; for the memory of captured graphs, which use released blocks.
  enum class Keep { Bounded, All };
  static constexpr std::size_t kept_bytes = std::size_t{64} << 20;
  static constexpr std::size_t size_classes = 16 + 8 * 50;  // up to 2^62 bytes

  explicit MemoryPool(Device device, Keep keep = Keep::Bounded);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // Returns a block of at least `bytes` bytes. When the device has no memory left, returns the unused blocks of all bounded pools
  // of the device to the system and tries again. Throws MemoryError with the requested, used and available bytes.
  PoolBlock* allocate(std::size_t bytes);
  void release(PoolBlock* block) noexcept;  // allocates nothing
  void release_cached();                    // returns unused blocks to the system
  PoolStatistics statistics() const;
  Device device() const { return device_; }

 private:
  friend void release_cached_of(Device device);
  PoolBlock* new_block(std::size_t bytes, std::unique_lock<std::mutex>& lock);
  void return_block(PoolBlock* block) noexcept;
  void return_oldest();
  void return_free_blocks() noexcept;

  const Device device_;
  const Keep keep_;
  mutable std::mutex mutex_;
  std::array<PoolBlock*, size_classes + 1> free_{};  // per size class the block released last; null: none. The last list stays empty.
  std::uint64_t releases_ = 0;
  PoolStatistics statistics_;
};

// Returns the unused blocks of all bounded pools of a device to the system.
void release_cached_of(Device device);

// The sums over all pools of a device.
PoolStatistics device_statistics(Device device);

// The pool for new tensors of this thread: the pool of the innermost PoolScope for the device, else one shared by the process.
std::shared_ptr<MemoryPool> current_pool(Device device);

// Allocates new tensors of this thread on the pool's device from `pool` during its lifetime. Null: changes nothing.
class PoolScope {
 public:
  explicit PoolScope(std::shared_ptr<MemoryPool> pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  const bool is_active_;
};

}  // namespace mblm
