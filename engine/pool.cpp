#include "engine/pool.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/error.h"

namespace mblm {
namespace {

// A size class: 16 of multiples of 256 bytes up to 4 KiB, then eight per power of two.
struct SizeClass {
  std::size_t size, number;
};

SizeClass size_class(std::size_t bytes) {
  constexpr std::size_t unit = 256, small = 4096, eighths = 8;
  if (bytes <= small) {
    const std::size_t units = std::max<std::size_t>(1, (bytes + unit - 1) / unit);
    return {units * unit, units - 1};
  }
  if (bytes > SIZE_MAX / 4) return {bytes, MemoryPool::size_classes};  // too large; the system reports it
  const auto power = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power + 1)
  const std::size_t step = std::size_t{1} << power >> 3, steps = (bytes + step - 1) / step;
  return {steps * step, small / unit + (power - 12) * eighths + steps - eighths - 1};
}

std::vector<std::shared_ptr<MemoryPool>>& scoped_pools() {
  thread_local std::vector<std::shared_ptr<MemoryPool>> pools;
  return pools;
}

// All pools of the process. Never destroyed: pools with static lifetime leave it at program exit. The lock is taken before a pool's.
struct Registry {
  std::mutex mutex;
  std::set<MemoryPool*> pools;
};
Registry& registry() {
  static Registry* const all = new Registry;
  return *all;
}

std::string out_of_memory_text(Device device, std::size_t bytes) {
  const PoolStatistics pools = device_statistics(device);
  const DeviceMemory memory = runtime_of(device.kind).memory(device.index);
  std::string text = concat_text("out of memory on ", device, ": requested ", bytes, " bytes, ", pools.used_bytes, " are in use");
  if (pools.held_bytes > pools.used_bytes) text += concat_text(", ", pools.held_bytes - pools.used_bytes, " are kept for reuse");
  if (memory.total_bytes > 0) text += concat_text("; the device has ", memory.total_bytes, " bytes, ", memory.free_bytes, " free");
  return text + "; use a smaller batch, a shorter context, train_checkpoint_chunks, or the precision bfloat16";
}

}  // namespace

MemoryPool::MemoryPool(Device device, Keep keep) : device_(device), keep_(keep) {
  const std::lock_guard lock(registry().mutex);
  registry().pools.insert(this);
}

MemoryPool::~MemoryPool() {
  {
    const std::lock_guard lock(registry().mutex);
    registry().pools.erase(this);
  }
  return_free_blocks();
}

PoolBlock* MemoryPool::allocate(std::size_t bytes) {
  std::unique_lock lock(mutex_);
  PoolBlock*& released = free_[size_class(bytes).number];
  PoolBlock* const block = released != nullptr ? std::exchange(released, released->next) : new_block(bytes, lock);
  statistics_.used_bytes += block->size;
  statistics_.peak_used_bytes = std::max(statistics_.peak_used_bytes, statistics_.used_bytes);
  runtime_of(device_.kind).mark_block(device_.index, block->data, bytes, block->size);
  return block;
}

PoolBlock* MemoryPool::new_block(std::size_t bytes, std::unique_lock<std::mutex>& lock) {
  Runtime& runtime = runtime_of(device_.kind);
  const auto [size, number] = size_class(bytes);
  if (keep_ == Keep::Bounded) {
    const std::size_t use = std::max(statistics_.peak_used_bytes, statistics_.used_bytes + size), most = std::max(kept_bytes, 2 * use);
    while (statistics_.held_bytes > statistics_.used_bytes && statistics_.held_bytes + size > most) return_oldest();
  }
  std::unique_ptr<PoolBlock> block(new PoolBlock{nullptr, size, number});
  block->data = runtime.allocate(device_.index, size);
  if (block->data == nullptr) {
    lock.unlock();
    release_cached_of(device_);
    block->data = runtime.allocate(device_.index, size);
    if (block->data == nullptr) throw MemoryError(out_of_memory_text(device_, bytes));
    lock.lock();
  }
  ++statistics_.system_allocations;
  statistics_.held_bytes += size;
  statistics_.peak_held_bytes = std::max(statistics_.peak_held_bytes, statistics_.held_bytes);
  return block.release();
}

void MemoryPool::release(PoolBlock* block) noexcept {
  const std::lock_guard lock(mutex_);
  runtime_of(device_.kind).mark_block(device_.index, block->data, 0, block->size);
  statistics_.used_bytes -= block->size;
  block->released = ++releases_;
  block->next = std::exchange(free_[block->list], block);
}

void MemoryPool::release_cached() {
  const std::lock_guard lock(mutex_);
  return_free_blocks();
}

// The block must have been taken from its list.
void MemoryPool::return_block(PoolBlock* block) noexcept {
  Runtime& runtime = runtime_of(device_.kind);
  runtime.mark_block(device_.index, block->data, block->size, block->size);
  runtime.release(device_.index, block->data);
  statistics_.held_bytes -= block->size;
  delete block;
}

// Returns the free block that was released first: the last one in the list of its class.
void MemoryPool::return_oldest() {
  PoolBlock** oldest = nullptr;
  for (PoolBlock*& first : free_) {
    if (first == nullptr) continue;
    PoolBlock** last = &first;
    while ((*last)->next != nullptr) last = &(*last)->next;
    if (oldest == nullptr || (*last)->released < (*oldest)->released) oldest = last;
  }
  if (oldest != nullptr) return_block(std::exchange(*oldest, nullptr));
}

void MemoryPool::return_free_blocks() noexcept {
  for (PoolBlock*& first : free_)
    while (first != nullptr) return_block(std::exchange(first, first->next));
}

PoolStatistics MemoryPool::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void release_cached_of(Device device) {
  const std::lock_guard lock(registry().mutex);
  for (MemoryPool* pool : registry().pools)
    if (pool->device_ == device && pool->keep_ == MemoryPool::Keep::Bounded) pool->release_cached();
}

PoolStatistics device_statistics(Device device) {
  PoolStatistics sum;
  const std::lock_guard lock(registry().mutex);
  for (const MemoryPool* pool : registry().pools) {
    if (!(pool->device() == device)) continue;
    const PoolStatistics one = pool->statistics();
    sum.used_bytes += one.used_bytes;
    sum.peak_used_bytes += one.peak_used_bytes;
    sum.held_bytes += one.held_bytes;
    sum.peak_held_bytes += one.peak_held_bytes;
    sum.system_allocations += one.system_allocations;
  }
  return sum;
}

std::shared_ptr<MemoryPool> current_pool(Device device) {
  const auto& scoped = scoped_pools();
  for (auto pool = scoped.rbegin(); pool != scoped.rend(); ++pool)
    if ((*pool)->device() == device) return *pool;
  if (device == Device{}) {  // without a lock
    static const auto cpu = std::make_shared<MemoryPool>(device);
    return cpu;
  }
  static std::mutex mutex;
  static std::map<std::pair<DeviceKind, int>, std::shared_ptr<MemoryPool>> shared;
  const std::lock_guard lock(mutex);
  std::shared_ptr<MemoryPool>& pool = shared[{device.kind, device.index}];
  if (pool == nullptr) pool = std::make_shared<MemoryPool>(device);
  return pool;
}

PoolScope::PoolScope(std::shared_ptr<MemoryPool> pool) : is_active_(pool != nullptr) {
  if (is_active_) scoped_pools().push_back(std::move(pool));
}
PoolScope::~PoolScope() {
  if (is_active_) scoped_pools().pop_back();
}

}  // namespace mblm
