// Shared memory of the block that runs, and the asynchronous copies into it.
#include <sys/mman.h>

#include <cstring>
#include <new>

#include "tests/cuda/emulator/access.h"
#include "tests/cuda/emulator/block.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/emulator/poison.h"

namespace emulator {
namespace {

constexpr std::size_t page = 4096, region_bytes = std::size_t{1} << 20, alignment = 128;
constexpr int nan_byte = 0xff;  // repeated: NaN in every floating type, -1 in every signed integer type

char* region = nullptr;  // shared memory ends where its first half ends; the second half cannot be accessed
char* shared = nullptr;
std::size_t shared_size = 0;

}  // namespace

void prepare_shared(std::size_t bytes) {
  if (region == nullptr) {
    void* p = mmap(nullptr, 2 * region_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    region = static_cast<char*>(p) + (region_bytes - reinterpret_cast<std::uintptr_t>(p) % region_bytes);  // the access checker uses the low bits
    mprotect(region, page, PROT_NONE);
    mprotect(region + region_bytes / 2, region_bytes / 2, PROT_NONE);
  }
  shared_size = bytes;
  shared = region + region_bytes / 2 - (bytes + alignment - 1) / alignment * alignment;
  poison(region + page, region_bytes / 2 - page);
  unpoison(shared, bytes);
}

void poison_shared() { std::memset(shared, nan_byte, shared_size); }

void* shared_memory(std::size_t bytes, std::size_t wanted_alignment, const Where& where) {
  if (bytes > shared_size)
    fail("shared memory: the kernel uses " + std::to_string(bytes) + " bytes and was launched with " + std::to_string(shared_size), where);
  if (wanted_alignment > alignment) fail("shared memory: an alignment of " + std::to_string(wanted_alignment) + " bytes, at most 128", where);
  return shared;
}

bool is_near_shared(const void* p) { return p >= region && p < region + region_bytes; }

bool is_shared(const void* p, std::size_t bytes) {
  const char* c = static_cast<const char*>(p);
  return c >= shared && c + bytes <= shared + shared_size;
}

void check_aligned(const void* p, std::size_t bytes, const Where& where) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) fail("misaligned address: expected a multiple of " + std::to_string(bytes), where);
}

void copy_async(void* to, const void* from, int bytes, int filled, const Where& where) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async: expected 4, 8 or 16 bytes, got " + std::to_string(bytes), where);
  if (filled < 0 || filled > bytes) fail("cp.async: expected 0 to " + std::to_string(bytes) + " bytes to read, got " + std::to_string(filled), where);
  const auto size = static_cast<std::size_t>(bytes);
  check_aligned(to, size, where);
  if (filled > 0) check_aligned(from, size, where);
  if (!is_shared(to, size)) fail("cp.async: the target is not in shared memory", where);
  if (filled > 0 && is_near_shared(from)) fail("cp.async: the source is not in global memory", where);
  const PendingCopy copy{to, from, bytes, filled};
  current->where = where;
  note_copy_issued(copy, where);
  std::memset(to, nan_byte, size);
  current->copies.push_back(copy);
}

void commit_copies() { current->groups.push_back(current->copies.size()); }

void wait_copies(std::size_t newest, const Where& where) {
  Lane& me = *current;
  while (me.groups.size() - me.groups_made > newest) {
    const std::size_t end = me.groups[me.groups_made++];
    for (; me.copies_made < end; ++me.copies_made) {
      const PendingCopy& copy = me.copies[me.copies_made];
      note_copy_done(copy, where);
      std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.filled));
      std::memset(static_cast<char*>(copy.to) + copy.filled, 0, static_cast<std::size_t>(copy.bytes - copy.filled));
    }
  }
  if (me.groups_made < me.groups.size() || me.copies_made < me.copies.size()) return;
  me.copies.clear();
  me.groups.clear();
  me.copies_made = me.groups_made = 0;
}

}  // namespace emulator
