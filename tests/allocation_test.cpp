// Releasing a block of a memory pool allocates nothing: it is noexcept.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "engine/pool.h"

namespace {

thread_local int allocations = 0;

}  // namespace

// Of the whole process, the libraries included.
void* operator new(std::size_t size) {
  ++allocations;
  void* const data = std::malloc(size);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }

namespace mblm::testing {

TEST_CASE("releasing a block allocates nothing") {
  static_assert(noexcept(std::declval<MemoryPool&>().release(nullptr)));
  MemoryPool pool{Device{}};
  int before = allocations;
  std::vector<PoolBlock*> blocks;
  for (std::size_t size = 1; size < 100; ++size)
    for (int repetition = 0; repetition < 20; ++repetition) blocks.push_back(pool.allocate(size * size * 100));
  CHECK(allocations > before + 99);  // the pool's allocations are counted
  before = allocations;
  for (PoolBlock* block : blocks) pool.release(block);
  CHECK(allocations == before);
}

}  // namespace mblm::testing
