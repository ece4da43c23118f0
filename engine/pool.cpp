#include "engine/pool.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "engine/error.h"

namespace mblm {
namespace {

std::size_t size_class(std::size_t bytes) {
  constexpr std::size_t small = 4096;
  if (bytes <= small) return std::max<std::size_t>(256, (bytes + 255) / 256 * 256);
  if (bytes > SIZE_MAX / 4) return bytes;  // too large; the system reports it
  const std::size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

std::vector<std::shared_ptr<MemoryPool>>& scoped_pools() {
  thread_local std::vector<std::shared_ptr<MemoryPool>> pools;
  return pools;
}

}  // namespace

MemoryPool::~MemoryPool() { drop_free_blocks(); }

void* MemoryPool::allocate(std::size_t bytes) {
  const std::size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (auto found = free_.find(size); found != free_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
  } else {
    Runtime& runtime = runtime_of(device_.kind);
    data = runtime.allocate(device_.index, size);
    if (data == nullptr) {
      drop_free_blocks();
      data = runtime.allocate(device_.index, size);
    }
    require<MemoryError>(data != nullptr, "out of memory on ", device_, ": requested ", bytes, " bytes, ", statistics_.used_bytes,
                         " are in use; use a smaller batch, a shorter context or train_checkpoint_chunks");
    ++statistics_.system_allocations;
    statistics_.held_bytes += size;
    statistics_.peak_held_bytes = std::max(statistics_.peak_held_bytes, statistics_.held_bytes);
  }
  sizes_.emplace(data, size);
  statistics_.used_bytes += size;
  statistics_.peak_used_bytes = std::max(statistics_.peak_used_bytes, statistics_.used_bytes);
  return data;
}

void MemoryPool::release(void* data) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(data);
  statistics_.used_bytes -= found->second;
  free_[found->second].push_back(data);
  sizes_.erase(found);
}

void MemoryPool::release_cached() {
  const std::lock_guard lock(mutex_);
  drop_free_blocks();
}

void MemoryPool::drop_free_blocks() {
  for (auto& [size, blocks] : free_) {
    for (void* data : blocks) runtime_of(device_.kind).release(device_.index, data);
    statistics_.held_bytes -= size * blocks.size();
  }
  free_.clear();
}

PoolStatistics MemoryPool::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

std::shared_ptr<MemoryPool> current_pool(Device device) {
  const auto& scoped = scoped_pools();
  for (auto pool = scoped.rbegin(); pool != scoped.rend(); ++pool)
    if ((*pool)->device() == device) return *pool;
  static std::mutex mutex;
  static std::map<std::pair<DeviceKind, int>, std::shared_ptr<MemoryPool>> shared;
  const std::lock_guard lock(mutex);
  std::shared_ptr<MemoryPool>& pool = shared[{device.kind, device.index}];
  if (pool == nullptr) pool = std::make_shared<MemoryPool>(device);
  return pool;
}

PoolScope::PoolScope(std::shared_ptr<MemoryPool> pool) { scoped_pools().push_back(std::move(pool)); }
PoolScope::~PoolScope() { scoped_pools().pop_back(); }

}  // namespace mblm
