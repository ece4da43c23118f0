// Memory pools.
#include "engine/pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "engine/tensor.h"
#include "tests/error_text.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace mblm::testing {

TEST_CASE("a repeated step with the same shapes allocates from the system only once") {
  const auto pool = std::make_shared<MemoryPool>(Device{});
  const PoolScope scope(pool);
  const auto step = [] {
    std::vector<Tensor> kept;
    for (const std::int64_t size : {1, 63, 1000, 5000, 123456, 1000000}) {
      const Tensor scratch = empty(Shape{size, 2}, DType::Float32);
      kept.push_back(empty(Shape{size}, DType::Float64));
    }
  };
  step();
  const PoolStatistics first = pool->statistics();
  CHECK(first.used_bytes == 0);
  CHECK(first.system_allocations > 0);
  CHECK(first.held_bytes == first.peak_held_bytes);
  for (int repetition = 0; repetition < 10; ++repetition) step();
  CHECK(pool->statistics().system_allocations == first.system_allocations);
  CHECK(pool->statistics().held_bytes == first.held_bytes);
}

TEST_CASE("statistics follow allocations and releases") {
  MemoryPool pool{Device{}};
  PoolBlock* small = pool.allocate(1);
  PoolBlock* large = pool.allocate(10000);
  CHECK(pool.statistics().used_bytes == 256 + 10240);
  pool.release(large);
  CHECK(pool.statistics().used_bytes == 256);
  CHECK(pool.statistics().peak_used_bytes == 256 + 10240);
  CHECK(pool.statistics().held_bytes == 256 + 10240);
  pool.release_cached();
  CHECK(pool.statistics().held_bytes == 256);
  CHECK(pool.statistics().peak_held_bytes == 256 + 10240);
  pool.release(small);
  CHECK(pool.statistics().used_bytes == 0);
}

TEST_CASE("size classes waste at most an eighth, and blocks are reused only within their class") {
  MemoryPool pool{Device{}};
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{256}, std::size_t{257}, std::size_t{4096}, std::size_t{4097},
                                  std::size_t{8192}, std::size_t{8193}, std::size_t{1000000}, (std::size_t{1} << 24) + 1}) {
    CAPTURE(bytes);
    PoolBlock* block = pool.allocate(bytes);
    const std::size_t taken = pool.statistics().used_bytes;
    CHECK(reinterpret_cast<std::uintptr_t>(block->data) % 64 == 0);
    CHECK(taken == block->size);
    CHECK(taken >= bytes);
    CHECK(taken % 256 == 0);
    CHECK(taken <= std::max<std::size_t>(256, bytes <= 4096 ? bytes + 255 : bytes + bytes / 8));
    std::memset(block->data, 1, bytes);
    pool.release(block);
    PoolBlock* again = pool.allocate(taken);  // its own class: the same block
    CHECK(again == block);
    pool.release(again);
    for (const std::size_t larger : {taken + 1, 2 * taken}) {
      PoolBlock* other = pool.allocate(larger);
      CHECK(other->size >= larger);
      pool.release(other);
    }
    pool.release_cached();
  }
}

TEST_CASE("running out of memory is an error, and the pool stays usable") {
  const auto pool = std::make_shared<MemoryPool>(Device{});
  const PoolScope scope(pool);
  const Tensor x = zeros(Shape{100}, DType::Float32);
  const std::string text = error_text<MemoryError>([] { empty(Shape{std::int64_t{1} << 60}, DType::Float64); });
  CHECK(text.starts_with("out of memory on cpu: requested 9223372036854775808 bytes, 512 are in use"));
  CHECK(error_text<MemoryError>([] { empty(Shape{std::int64_t{1} << 62}, DType::Float64); }) ==
        "out of memory on cpu: (4611686018427387904) of float64 has more than 2^64 bytes");
  CHECK(pool->statistics().used_bytes == 512);
  CHECK(zeros(Shape{100}, DType::Float32).numel() == 100);
}

TEST_CASE("growing lengths do not keep the blocks of all earlier lengths") {
  const std::size_t unit = MemoryPool::kept_bytes / 8;
  MemoryPool bounded{Device{}}, all{Device{}, MemoryPool::Keep::All};
  for (std::size_t length = 1; length <= 40; ++length) {
    for (MemoryPool* pool : {&bounded, &all}) pool->release(pool->allocate(length * unit));
    const PoolStatistics now = bounded.statistics();
    CHECK(now.held_bytes <= std::max(MemoryPool::kept_bytes, 2 * now.peak_used_bytes));
  }
  CHECK(all.statistics().held_bytes > 2 * bounded.statistics().held_bytes);
  CHECK(all.statistics().system_allocations >= 20);
  all.release_cached();
  CHECK(all.statistics().held_bytes == 0);
}

TEST_CASE("the blocks that were released first are returned to the system first") {
  const std::size_t unit = MemoryPool::kept_bytes / 16;
  MemoryPool pool{Device{}};
  for (const std::size_t length : {4, 5, 6, 7}) pool.release(pool.allocate(length * unit));  // the last one leaves room for 6 only
  CHECK(pool.statistics().held_bytes == 13 * unit);
  CHECK(pool.statistics().system_allocations == 4);
  pool.release(pool.allocate(6 * unit));
  CHECK(pool.statistics().system_allocations == 4);
  pool.release(pool.allocate(5 * unit));
  CHECK(pool.statistics().system_allocations == 5);
}

TEST_CASE("the statistics of a device are the sums over its pools") {
  const PoolStatistics before = device_statistics(Device{});
  MemoryPool first{Device{}}, second{Device{}, MemoryPool::Keep::All};
  PoolBlock *a = first.allocate(256), *b = second.allocate(512);
  CHECK(device_statistics(Device{}).used_bytes == before.used_bytes + 768);
  first.release(a);
  second.release(b);
  CHECK(device_statistics(Device{}).used_bytes == before.used_bytes);
  CHECK(device_statistics(Device{}).held_bytes == before.held_bytes + 768);
}

#if defined(__SANITIZE_ADDRESS__)
TEST_CASE("AddressSanitizer sees the slack of a block, and blocks that were released") {
  MemoryPool pool{Device{}};
  PoolBlock* const block = pool.allocate(100);
  auto* data = static_cast<char*>(block->data);
  CHECK(__asan_address_is_poisoned(data + 99) == 0);
  CHECK(__asan_address_is_poisoned(data + 100) == 1);
  pool.release(block);
  CHECK(__asan_address_is_poisoned(data) == 1);
  CHECK(pool.allocate(256) == block);
  CHECK(__asan_address_is_poisoned(data + 255) == 0);
  pool.release(block);
}
#endif

TEST_CASE("pool scopes are independent of each other and of other threads") {
  const auto outer = std::make_shared<MemoryPool>(Device{}), inner = std::make_shared<MemoryPool>(Device{});
  const std::shared_ptr<MemoryPool> shared = current_pool(Device{});
  Tensor outlives;
  {
    const PoolScope outer_scope(outer);
    CHECK(current_pool(Device{}) == outer);
    {
      const PoolScope inner_scope(inner);
      CHECK(current_pool(Device{}) == inner);
      outlives = zeros(Shape{1000}, DType::Float32);
      CHECK(inner->statistics().used_bytes > 0);
      CHECK(outer->statistics().used_bytes == 0);
      std::thread([&] { CHECK(current_pool(Device{}) == shared); }).join();
      CHECK(current_pool(Device{DeviceKind::Cuda, 0}) != inner);
    }
    CHECK(current_pool(Device{}) == outer);
  }
  CHECK(current_pool(Device{}) == shared);
  outlives = {};  // is released to its own pool
  CHECK(inner->statistics().used_bytes == 0);
}

TEST_CASE("a pool serves several threads") {
  MemoryPool pool{Device{}};
  const auto work = [&](unsigned char mark) {
    std::vector<std::pair<PoolBlock*, std::size_t>> blocks;
    for (std::size_t i = 0; i < 4000; ++i) {
      const std::size_t bytes = 1 + i * 37 % 9000;
      blocks.emplace_back(pool.allocate(bytes), bytes);
      std::memset(blocks.back().first->data, mark, bytes);
      if (i % 3 == 0) continue;
      const auto [block, size] = blocks[i % blocks.size()];
      const auto* oldest = static_cast<const unsigned char*>(block->data);
      REQUIRE(std::all_of(oldest, oldest + size, [&](unsigned char c) { return c == mark; }));  // no other thread uses this block
      pool.release(block);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i % blocks.size()));
    }
    for (const auto& block : blocks) pool.release(block.first);
  };
  std::vector<std::thread> threads;
  for (unsigned char mark = 1; mark <= 4; ++mark) threads.emplace_back(work, mark);
  for (std::thread& thread : threads) thread.join();
  CHECK(pool.statistics().used_bytes == 0);
}

}  // namespace mblm::testing
