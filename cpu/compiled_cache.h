// A bounded cache of objects that are expensive to create, for threads that ask for the same few objects again and again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace mblm {

// Thread-safe. Holds at most `capacity` values; the values used least recently are dropped first. A thread that uses a value keeps it
// alive. Creates values outside the lock: threads that need other values do not wait, threads that need the same value wait for the
// first one. Key: ordered by <=>.
template <class Key, class Value> class CompiledCache {
 public:
  explicit CompiledCache(std::size_t capacity) : capacity_(capacity) {}
  CompiledCache(const CompiledCache&) = delete;
  CompiledCache& operator=(const CompiledCache&) = delete;

  // The value of `key`, created by `create(key)`, which returns a Value, if it is not in the cache. When create throws, all threads
  // that wait for this value throw the same exception, and the next call creates it again.
  template <class F> std::shared_ptr<const Value> get(const Key& key, const F& create) {
    std::promise<std::shared_ptr<const Value>> promise;
    std::unique_lock lock(mutex_);
    if (const auto found = entries_.find(key); found != entries_.end()) {
      order_.splice(order_.begin(), order_, found->second.place);
      const auto value = found->second.value;
      lock.unlock();
      return value.get();
    }
    order_.push_front(key);
    const std::uint64_t id = ++created_;
    entries_.emplace(key, Entry{promise.get_future().share(), order_.begin(), id});
    if (entries_.size() > capacity_) {
      entries_.erase(order_.back());
      order_.pop_back();
    }
    lock.unlock();
    try {
      auto value = std::make_shared<const Value>(create(key));
      promise.set_value(value);
      return value;
    } catch (...) {
      promise.set_exception(std::current_exception());
      lock.lock();
      if (const auto found = entries_.find(key); found != entries_.end() && found->second.id == id) {
        order_.erase(found->second.place);
        entries_.erase(found);
      }
      throw;
    }
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
  }

 private:
  struct Entry {
    std::shared_future<std::shared_ptr<const Value>> value;
    typename std::list<Key>::iterator place;
    std::uint64_t id;
  };

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::map<Key, Entry> entries_;
  std::list<Key> order_;  // used last first
  std::uint64_t created_ = 0;
};

// The values that one thread used last, in front of a shared cache: a tile finds its value without a lock. Not thread-safe; declare it
// thread_local. `Key::hash()` selects one of a few places.
template <class Key, class Value> class RecentValues {
 public:
  template <class F> const Value& get(CompiledCache<Key, Value>& cache, const Key& key, const F& create) {
    auto& [last_key, value] = places_[key.hash() % places_.size()];
    if (value == nullptr || !(last_key == key)) {
      value = cache.get(key, create);
      last_key = key;
    }
    return *value;
  }

 private:
  std::array<std::pair<Key, std::shared_ptr<const Value>>, 16> places_{};
};

}  // namespace mblm
