// Access checker: `-fsanitize=thread` makes the compiler call a function at every access to memory, here for the kernels alone and
// without its library. It finds accesses by two lanes or blocks with nothing that orders them, memory that nobody wrote, and
// addresses outside of allocations, whatever the values are.
#include "tests/cuda/emulator/access.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "tests/cuda/emulator/block.h"
#include "tests/cuda/emulator/memory.h"

namespace emulator {
namespace {

// Who accessed a byte last, in 64 bits: the serial number of the block, the thread, the number of barriers of the block so far, the
// thread's own clock (barriers of its warp so far), and flags. 0: nobody.
using Stamp = std::uint64_t;
constexpr int clock_shift = 2, epoch_shift = 14, lane_shift = 26, serial_shift = 36;
constexpr Stamp last_clock = 0xfff, last_epoch = 0xfff, last_lane = 0x3ff;
constexpr Stamp serial_of(Stamp s) { return s >> serial_shift; }
constexpr unsigned lane_of(Stamp s) { return static_cast<unsigned>(s >> lane_shift & last_lane); }
constexpr Stamp epoch_of(Stamp s) { return s >> epoch_shift & last_epoch; }
constexpr Stamp clock_of(Stamp s) { return s >> clock_shift & last_clock; }
constexpr Stamp flags_of(Stamp s) { return s & 3; }
constexpr Stamp forbidden = 1;  // outside of the part of a block that is in use
constexpr Stamp by_host = Stamp{1} << serial_shift;
enum WriteFlag : Stamp { Plain, Atomic, Pending };                             // Pending: an asynchronous copy
enum ReadFlag : Stamp { OneLane, SeveralLanes, SeveralWarps, SeveralBlocks };  // since the last barrier, or in this launch

struct Stamps {
  Stamp *write = nullptr, *read = nullptr;
};
constexpr int most_devices = 8;
constexpr std::size_t shared_bytes = std::size_t{1} << 20;

bool instrumented = false;
bool active = false;                 // in the launch that runs
Arena* running = nullptr;            // memory of its device
Stamps global, shared;               // for this device, and for the block that runs
Stamp serial = 1, first_serial = 2;  // of this block, and of the first block of this launch
Stamp epoch = 0;
bool warps_met = false;  // since the last barrier
std::vector<std::uint64_t> block_numbers;

Stamp* reserve(std::size_t count) {
  void* p = mmap(nullptr, count * sizeof(Stamp), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Stamp*>(p);
}

Stamps& stamps_of(int device) {
  static Stamps all[most_devices];
  Stamps& found = all[device];
  if (found.write == nullptr) found = {reserve(arena_bytes), reserve(arena_bytes)};
  return found;
}

Stamp* write_stamps(const void* p) {
  const int device = device_of(p);
  return stamps_of(device).write + (static_cast<const char*>(p) - arena(device).begin);
}

// The allocations that this launch accessed last, because finding one takes longer than checking an access.
struct Recent {
  static constexpr std::size_t size = 8;
  const Allocation* found[size] = {};
  std::size_t next = 0;

  const Allocation* find(const char* p, std::size_t bytes) {
    for (const Allocation* a : found)
      if (a != nullptr && p >= a->begin && p + bytes <= a->begin + a->bytes) return a;
    const Allocation* a = find_allocation(p);
    if (a == nullptr || p + bytes > a->begin + a->bytes) return nullptr;
    return found[next++ % size] = a;
  }
} recent;

enum class Access { Read, Write, Atomic, Issue, Complete };  // the last two: of an asynchronous copy

struct Site {
  const void* pc = nullptr;
  const Where* where = nullptr;
};

[[noreturn]] void report(const std::string& what, const Site& site) {
  if (site.where != nullptr) fail(what, *site.where);
  fail_at(what, site.pc);
}

std::string who(Stamp s) {
  if (serial_of(s) == serial) return "thread " + std::to_string(lane_of(s));
  const std::uint64_t n = block_numbers[serial_of(s) - first_serial];
  return "thread " + std::to_string(lane_of(s)) + " of block (" + std::to_string(n % grid_size.x) + ", " +
         std::to_string(n / grid_size.x % grid_size.y) + ", " + std::to_string(n / grid_size.x / grid_size.y) + ")";
}

// Whether nothing orders an earlier write, or the last of earlier reads, before an access by `me`.
bool unordered_write(Stamp w, const Lane& me) {
  if (serial_of(w) < first_serial) return false;
  if (serial_of(w) != serial) return true;
  const unsigned lane = lane_of(w);
  if (lane == me.index || epoch_of(w) != epoch) return false;
  if (lane / warp_lanes != me.index / warp_lanes) return true;
  return clock_of(w) != last_clock && me.clock[lane % warp_lanes] < clock_of(w);
}
bool unordered_read(Stamp r, const Lane& me) {
  if (serial_of(r) < first_serial) return false;
  if (serial_of(r) != serial || flags_of(r) == SeveralBlocks) return true;
  if (epoch_of(r) != epoch) return false;
  const unsigned lane = lane_of(r);
  if (flags_of(r) == SeveralWarps || lane / warp_lanes != me.index / warp_lanes) return true;
  if (clock_of(r) == last_clock) return false;
  if (lane == me.index) return flags_of(r) == SeveralLanes && me.clock[me.lane] <= clock_of(r);
  return me.clock[lane % warp_lanes] < clock_of(r);
}

Stamp read_stamp(Stamp before, Stamp now, bool is_shared_memory, const Lane& me) {
  if (serial_of(before) < first_serial || (is_shared_memory && serial_of(before) != serial)) return now;
  if (flags_of(before) == SeveralBlocks) return before;
  if (serial_of(before) != serial) return before | SeveralBlocks;
  if (epoch_of(before) != epoch) return now;
  const unsigned lane = lane_of(before);
  if (lane == me.index) return now | flags_of(before);
  return now | (lane / warp_lanes == me.index / warp_lanes ? std::max<Stamp>(SeveralLanes, flags_of(before)) : Stamp{SeveralWarps});
}

// Checks an access to a byte and updates its stamps, for `count` bytes with the same stamps.
inline void visit(Stamp& write, Stamp& read, std::size_t count, Access access, Stamp now, bool is_shared_memory, const Lane& me, const Site& site) {
  const Stamp w = write, r = read;
  if (w == forbidden) report(access == Access::Read ? "read outside of a block of the pool" : "write outside of a block of the pool", site);
  const bool stale = is_shared_memory && serial_of(w) != serial;  // from an earlier block
  if (access == Access::Read || access == Access::Atomic) {
    if (w == 0 || stale) report(is_shared_memory ? "read of shared memory that nobody wrote" : "read of memory that nobody wrote", site);
  }
  if (!stale && access != Access::Complete) {
    if (flags_of(w) == Pending && serial_of(w) == serial)
      report(access == Access::Read ? "read of the target of an asynchronous copy before waiting for it"
                                    : "write to the target of an asynchronous copy before waiting for it",
             site);
    if (unordered_write(w, me) && !(access == Access::Atomic && flags_of(w) == Atomic))
      report((access == Access::Read ? "race: read what is written by " : "race: written also by ") + who(w), site);
  }
  // The first access of this launch moves the byte; later ones may find it in a cache.
  if (!is_shared_memory && serial_of(access == Access::Read ? r : w) < first_serial) counts().kernel_bytes += count;
  if (access == Access::Read) {
    read = read_stamp(r, now, is_shared_memory, me);
    return;
  }
  if (!(is_shared_memory && serial_of(r) != serial) && unordered_read(r, me)) report("race: written while read by " + who(r), site);
  write = now | (access == Access::Atomic ? Atomic : access == Access::Issue ? Pending : Plain);
}

inline bool all_equal(const Stamp* s, std::size_t n) {
  Stamp difference = 0;
  for (std::size_t i = 1; i < n; ++i) difference |= s[i] ^ s[0];
  return difference == 0;
}

void see(const void* p, std::size_t bytes, Access access, const Site& site) {
  const bool is_shared_memory = is_shared(p, bytes);
  Stamp *write, *read;
  if (is_shared_memory) {
    const std::size_t offset = reinterpret_cast<std::uintptr_t>(p) & (shared_bytes - 1);
    write = shared.write + offset;
    read = shared.read + offset;
  } else if (p >= running->begin && p < running->begin + arena_bytes) {
    const auto offset = static_cast<const char*>(p) - running->begin;
    const Allocation* a = recent.find(static_cast<const char*>(p), bytes);
    if (a == nullptr) report(access == Access::Read ? "read outside of an allocation" : "write outside of an allocation", site);
    if (!a->live) report("access to memory that was freed", site);
    write = global.write + offset;
    read = global.read + offset;
  } else {
    if (is_near_shared(p)) report("access outside of shared memory", site);
    if (device_of(p) >= 0) report("access to memory of another device", site);
    return;  // the thread's own variables, or constants
  }
  const Lane& me = *current;
  const Stamp clock = std::min<Stamp>(me.clock[me.lane], last_clock);
  const Stamp now = serial << serial_shift | Stamp{me.index} << lane_shift | epoch << epoch_shift | clock << clock_shift;
  if (all_equal(write, bytes) && all_equal(read, bytes)) {
    visit(write[0], read[0], bytes, access, now, is_shared_memory, me, site);
    if (access == Access::Read)
      std::fill_n(read + 1, bytes - 1, read[0]);
    else
      std::fill_n(write + 1, bytes - 1, write[0]);
    return;
  }
  for (std::size_t i = 0; i < bytes; ++i) visit(write[i], read[i], 1, access, now, is_shared_memory, me, site);
}

// An access by compiled code. `aligned`: the address must be a multiple of the size.
void see_code(const void* p, std::size_t bytes, Access access, bool aligned, const void* pc) {
  if (current == nullptr || !active || bytes == 0) return;
  const Site site{pc, nullptr};
  if (aligned && (reinterpret_cast<std::uintptr_t>(p) & (bytes - 1)) != 0 && (is_near_shared(p) || device_of(p) >= 0))
    report("misaligned access of " + std::to_string(bytes) + " bytes", site);
  see(p, bytes, access, site);
}

void see_line(const void* p, std::size_t bytes, Access access, const Where& where) {
  if (current == nullptr || !active || bytes == 0) return;
  see(p, bytes, access, Site{nullptr, &where});
}

void reset_clocks(unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    Lane& lane = lane_of_block(i);
    std::fill_n(lane.clock, warp_lanes, 0u);
    lane.clock[lane.lane] = 1;
  }
}

}  // namespace

void note_launch(int device) {
  active = instrumented && settings().check_accesses;
  if (!active) return;
  running = &arena(device);
  global = stamps_of(device);
  if (shared.write == nullptr) shared = {reserve(shared_bytes), reserve(shared_bytes)};
  first_serial = serial + 1;
  block_numbers.clear();
  recent = {};
}

void note_block() {
  if (!active) return;
  ++serial;
  if (serial_of(~Stamp{0}) == serial) throw Error("too many blocks for the access checker");
  block_numbers.push_back(block_index.x + std::uint64_t{grid_size.x} * (block_index.y + std::uint64_t{grid_size.y} * block_index.z));
  epoch = 0;
  warps_met = false;
  reset_clocks(static_cast<unsigned>(block_size.count()));
}

void note_barrier() {
  if (!active) return;
  epoch = (epoch + 1) & last_epoch;
  if (warps_met) reset_clocks(static_cast<unsigned>(block_size.count()));
  warps_met = false;
}

// Vector clocks: each lane learns what every other has done so far, and starts a new time of its own.
void note_warp_barrier(Lane* const* lanes, unsigned count) {
  if (!active) return;
  warps_met = true;
  std::uint32_t known[warp_lanes] = {};
  for (unsigned i = 0; i < count; ++i)
    for (unsigned k = 0; k < warp_lanes; ++k) known[k] = std::max(known[k], lanes[i]->clock[k]);
  for (unsigned i = 0; i < count; ++i) {
    std::copy_n(known, warp_lanes, lanes[i]->clock);
    ++lanes[i]->clock[lanes[i]->lane];
  }
}

void note_read(const void* p, std::size_t bytes, const Where& where) { see_line(p, bytes, Access::Read, where); }
void note_write(const void* p, std::size_t bytes, const Where& where) { see_line(p, bytes, Access::Write, where); }
void note_atomic(const void* p, std::size_t bytes, const Where& where) { see_line(p, bytes, Access::Atomic, where); }

void note_copy_issued(const PendingCopy& copy, const Where& where) {
  see_line(copy.from, static_cast<std::size_t>(copy.filled), Access::Read, where);
  see_line(copy.to, static_cast<std::size_t>(copy.bytes), Access::Issue, where);
}
void note_copy_done(const PendingCopy& copy, const Where& where) {
  see_line(copy.from, static_cast<std::size_t>(copy.filled), Access::Read, where);
  see_line(copy.to, static_cast<std::size_t>(copy.bytes), Access::Complete, where);
}

void note_host_write(const void* p, std::size_t bytes) {
  if (!instrumented || device_of(p) < 0) return;
  Stamp* const s = write_stamps(p);
  if (std::find(s, s + bytes, forbidden) != s + bytes) throw Error("a copy, a fill or a library writes outside of a block of the pool");
  std::fill_n(s, bytes, by_host);
}

void note_block_use(const void* p, std::size_t accessible, std::size_t bytes) {
  if (!instrumented || device_of(p) < 0) return;
  Stamp* const s = write_stamps(p);
  std::fill_n(s, accessible, Stamp{0});
  std::fill_n(s + accessible, bytes - accessible, forbidden);
}

void note_device_copy(void* to, const void* from, std::size_t bytes) {
  if (!instrumented) return;
  const Stamp* source = write_stamps(from);
  std::transform(source, source + bytes, write_stamps(to), [](Stamp s) { return s == 0 ? s : by_host; });
}

bool is_initialized(const void* p, std::size_t bytes) {
  if (!instrumented || device_of(p) < 0) return true;
  const Stamp* s = write_stamps(p);
  return std::all_of(s, s + bytes, [](Stamp by) { return by != 0 && by != forbidden; });
}

}  // namespace emulator

using emulator::Access;
using emulator::see_code;
#define PC __builtin_return_address(0)
#define EMULATOR_ACCESS(n)                                                              \
  void __tsan_read##n(void* p) { see_code(p, n, Access::Read, true, PC); }              \
  void __tsan_write##n(void* p) { see_code(p, n, Access::Write, true, PC); }            \
  void __tsan_unaligned_read##n(void* p) { see_code(p, n, Access::Read, false, PC); }   \
  void __tsan_unaligned_write##n(void* p) { see_code(p, n, Access::Write, false, PC); } \
  void __tsan_volatile_read##n(void* p) { see_code(p, n, Access::Read, true, PC); }     \
  void __tsan_volatile_write##n(void* p) { see_code(p, n, Access::Write, true, PC); }

extern "C" {
void __tsan_init() { emulator::instrumented = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
EMULATOR_ACCESS(1)
EMULATOR_ACCESS(2)
EMULATOR_ACCESS(4)
EMULATOR_ACCESS(8)
EMULATOR_ACCESS(16)
void __tsan_read_range(void* p, unsigned long n) { see_code(p, n, Access::Read, false, PC); }
void __tsan_write_range(void* p, unsigned long n) { see_code(p, n, Access::Write, false, PC); }
void __tsan_vptr_update(void**, void*) {}
// Host code of the kernel files: guards of static variables, counts of shared pointers, kernel slots.
unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return *p; }
long __tsan_atomic64_load(const volatile long* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
int __tsan_atomic32_fetch_add(volatile int* p, int value, int) { return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST); }
}
