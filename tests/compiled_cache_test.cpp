// The cache of compiled primitives.
#include "cpu/compiled_cache.h"

#include <doctest/doctest.h>

#include <atomic>
#include <compare>
#include <stdexcept>
#include <thread>
#include <vector>

namespace mblm::testing {
namespace {

struct Key {
  int number = 0;
  auto operator<=>(const Key&) const = default;
  std::size_t hash() const { return static_cast<std::size_t>(number); }
};

}  // namespace

TEST_CASE("a cache creates a value once and drops the values used least recently") {
  CompiledCache<Key, int> cache(3);
  int created = 0;
  const auto create = [&](const Key& key) { return ++created, 10 * key.number; };
  for (const int key : {1, 2, 3, 1}) CHECK(*cache.get({key}, create) == 10 * key);
  CHECK(created == 3);
  const auto two = cache.get({2}, create);
  CHECK(*cache.get({4}, create) == 40);  // drops 3
  CHECK(cache.size() == 3);
  for (const int key : {1, 2, 4}) cache.get({key}, create);
  CHECK(created == 4);
  cache.get({3}, create);  // drops 1
  CHECK(created == 5);
  for (int key = 5; key < 500; ++key) cache.get({key}, create);
  CHECK(cache.size() == 3);
  CHECK(*two == 20);  // its user keeps it
}

TEST_CASE("threads with other values do not wait for a value that is created, and threads with the same value get it") {
  CompiledCache<Key, int> cache(8);
  std::atomic<bool> started = false, other_done = false;
  std::atomic<int> created = 0;
  const auto slow = [&](const Key&) {
    ++created;
    started = true;
    while (!other_done) std::this_thread::yield();  // ends only if the other value can be created meanwhile
    return 1;
  };
  std::atomic<int> sum = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { sum += *cache.get({1}, slow); });
  while (!started) std::this_thread::yield();
  CHECK(*cache.get({2}, [](const Key&) { return 2; }) == 2);
  other_done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(sum == 3);
  CHECK(created == 1);
}

TEST_CASE("a value that cannot be created is created again by the next call") {
  CompiledCache<Key, int> cache(2);
  const auto fail = [](const Key&) -> int { throw std::runtime_error("no"); };
  CHECK_THROWS_WITH(cache.get({1}, fail), "no");
  CHECK(cache.size() == 0);
  CHECK(*cache.get({1}, [](const Key&) { return 5; }) == 5);
}

TEST_CASE("a thread finds its recent values without the shared cache") {
  CompiledCache<Key, int> cache(1);
  RecentValues<Key, int> recent;
  int created = 0;
  const auto create = [&](const Key& key) { return ++created, key.number; };
  for (int round = 0; round < 3; ++round)
    for (const int key : {1, 2, 3}) CHECK(recent.get(cache, {key}, create) == key);
  CHECK(created == 3);  // the shared cache holds only one of them
  CHECK(recent.get(cache, {17}, create) == 17);  // takes the place of 1
  CHECK(recent.get(cache, {1}, create) == 1);
  CHECK(created == 5);
  CHECK(recent.get(cache, {0}, create) == 0);  // equal to the key of an empty place
  CHECK(created == 6);
}

}  // namespace mblm::testing
