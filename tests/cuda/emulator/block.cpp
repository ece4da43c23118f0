// Blocks, warps and lanes: who runs next, and where they meet.
#include "tests/cuda/emulator/block.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <optional>

#include "tests/cuda/emulator/access.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/emulator/fiber.h"
#include "tests/cuda/emulator/memory.h"
#include "tests/cuda/emulator/symbol.h"

namespace emulator {

constinit thread_local Lane* current = nullptr;
Dim block_index, block_size, grid_size;

namespace {

constexpr unsigned most_threads = 1024;
constexpr std::size_t page = 4096;

struct Failure {
  std::string what, place;
  const void* pc = nullptr;
  std::string block, thread;
};

// The lanes that can run, in a ring. Released lanes of a warp go to the front: a warp runs on until it waits for others.
struct Ready {
  Lane* lanes[2 * most_threads];
  unsigned head = 0, count = 0;

  void push_back(Lane* lane) { lanes[(head + count++) % (2 * most_threads)] = lane; }
  void push_front(Lane* lane) {
    head = (head + 2 * most_threads - 1) % (2 * most_threads);
    lanes[head] = lane;
    ++count;
  }
  Lane* pop() {
    if (count == 0) return nullptr;
    Lane* lane = lanes[head];
    head = (head + 1) % (2 * most_threads);
    --count;
    return lane;
  }
};

Lane lanes[most_threads];
Warp warps[most_threads / warp_lanes];
Ready ready;
unsigned lane_count = 0, at_barrier = 0, done = 0;
Fiber host;                                                                                      // the thread that called run()
std::vector<Fiber*>&fibers = *new std::vector<Fiber*>, &free_fibers = *new std::vector<Fiber*>;  // never destroyed
std::optional<Failure> failure;
const std::function<void()>* body = nullptr;
std::string kernel_name;
std::uint64_t switches = 0;  // of this launch
Random random_order;

std::string triple(const Dim& d) { return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")"; }

std::string place(const Where& where) { return short_file(where.file_name()) + ":" + std::to_string(where.line()); }

[[noreturn]] void lane_main();

Fiber* take_fiber() {
  if (free_fibers.empty()) {
    fibers.push_back(new_fiber(&lane_main, static_cast<unsigned>(fibers.size())));
    return fibers.back();
  }
  Fiber* fiber = free_fibers.back();
  free_fibers.pop_back();
  return fiber;
}

inline void go(Fiber& from, Lane* next) {
  ++switches;
  current = next;
  if (next == nullptr) return switch_fiber(from, host);
  if (next->fiber == nullptr) next->fiber = take_fiber();
  switch_fiber(from, *next->fiber);
}

// Lets other lanes run until this one is ready again. If none can run, the launch is stuck and the host takes over.
inline void wait() {
  Lane* me = current;
  Lane* next = ready.pop();
  if (next != me) go(*me->fiber, next);
}

void forget_copies(Lane& lane) {
  lane.copies.clear();
  lane.groups.clear();
  lane.copies_made = lane.groups_made = 0;
}

// Lanes of the warp that wait for one that returns would wait forever.
void check_nobody_waits(const Lane& me) {
  for (unsigned rest = me.warp->waiting; rest != 0; rest &= rest - 1) {
    const Lane& other = *me.warp->lanes[std::countr_zero(rest)];
    if ((other.mask >> me.lane & 1u) != 0)
      fail("the thread returns while lane " + std::to_string(other.lane) + " waits for it in a warp operation", other.where);
  }
}

// Unwinds a lane; the fibers of the others are abandoned.
struct LaneFailure {
  std::string what, place;
};

// Runs a lane to its end. False after an error.
bool run_lane(Lane& me) {
  try {
    (*body)();
    if (me.copies_made < me.copies.size()) fail("cp.async: the thread returns without waiting for its copies", me.where);
    if (!me.groups.empty()) forget_copies(me);
    check_nobody_waits(me);
    return true;
  } catch (const LaneFailure& f) {
    failure = Failure{f.what, f.place, nullptr, triple(block_index), triple(me.thread)};
    return false;
  }
}

// A fiber runs lanes one after the other. A lane that never waits needs no switch: the fiber that ends starts the next.
[[noreturn]] void lane_main() {
  enter_fiber();
  for (;;) {
    Lane& me = *current;
    Fiber* mine = me.fiber;
    if (!run_lane(me)) {
      go(*mine, nullptr);
      continue;
    }
    me.state = Lane::Done;
    me.warp->done |= 1u << me.lane;
    ++done;
    me.fiber = nullptr;
    Lane* next = ready.pop();
    if (next != nullptr && next->fiber == nullptr) {
      next->fiber = mine;
      current = next;
      continue;
    }
    free_fibers.push_back(mine);
    go(*mine, next);
  }
}

void abandon_fibers() {
  free_fibers.clear();
  for (std::size_t i = 0; i < fibers.size(); ++i) {
    restart_fiber(*fibers[i], &lane_main, static_cast<unsigned>(i));
    free_fibers.push_back(fibers[i]);
  }
  for (Lane& lane : lanes) {
    lane.fiber = nullptr;
    forget_copies(lane);
  }
}

void shuffle(Lane** list, unsigned count) {
  for (unsigned i = count; i > 1; --i) std::swap(list[i - 1], list[random_order.below(i)]);
}

// The order in which lanes that become ready together run.
void arrange(Lane** list, unsigned count) {
  if (settings().order == Order::Reverse) std::reverse(list, list + count);
  if (settings().order == Order::Random) shuffle(list, count);
}

void start_all() {
  Lane* list[most_threads];
  for (unsigned i = 0; i < lane_count; ++i) {
    list[i] = &lanes[i];
    lanes[i].state = Lane::Ready;
  }
  arrange(list, lane_count);
  for (unsigned i = 0; i < lane_count; ++i) ready.push_back(list[i]);
}

void release_warp(Lane** list, unsigned count) {
  arrange(list, count);
  for (unsigned i = 0; i < count; ++i) list[i]->state = Lane::Ready;
  if (settings().order == Order::Random)
    for (unsigned i = 0; i < count; ++i) ready.push_back(list[i]);
  else
    for (unsigned i = count; i-- > 0;) ready.push_front(list[i]);
}

void prepare_lanes(Dim block) {
  const unsigned count = static_cast<unsigned>(block.count());
  static Dim prepared{0, 0, 0};
  if (prepared.x == block.x && prepared.y == block.y && prepared.z == block.z) return;
  prepared = block;
  lane_count = count;
  for (Warp& warp : warps) warp = {};
  for (unsigned i = 0; i < lane_count; ++i) {
    Lane& lane = lanes[i];
    lane.thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    lane.index = i;
    lane.lane = i % warp_lanes;
    lane.warp = &warps[i / warp_lanes];
    lane.warp->lanes[lane.lane] = &lane;
    lane.warp->present |= 1u << lane.lane;
  }
}

// Describes why no thread can run. Names one waiting thread per kind of wait as an example.
std::string stuck() {
  unsigned waiting[4] = {};
  const Lane* example[4] = {};
  for (unsigned i = 0; i < lane_count; ++i) {
    ++waiting[lanes[i].state];
    example[lanes[i].state] = &lanes[i];
  }
  const auto count = [&](Lane::State state, const char* what) {
    if (waiting[state] == 0) return std::string();
    const Lane& lane = *example[state];
    return ", " + std::to_string(waiting[state]) + " wait " + what + " (thread " + triple(lane.thread) + " at " + place(lane.where) + ")";
  };
  return "the block is stuck: " + std::to_string(done) + " of " + std::to_string(lane_count) + " threads have returned" +
         count(Lane::AtBarrier, "in __syncthreads") + count(Lane::AtWarp, "for lanes of their warp");
}

std::string describe(const Failure& f) {
  std::string text = kernel_name + ", block " + f.block;
  if (!f.thread.empty()) text += ", thread " + f.thread;
  const std::string where = f.pc != nullptr ? line_of(f.pc) : f.place;
  if (!where.empty()) text += ", " + where;
  return text + ": " + f.what;
}

void run_block() {
  note_block();
  poison_shared();
  ready.head = ready.count = 0;
  at_barrier = done = 0;
  for (unsigned i = 0; i < (lane_count + warp_lanes - 1) / warp_lanes; ++i) warps[i].waiting = warps[i].done = 0;
  start_all();
  failure.reset();
  go(host, ready.pop());
  if (!failure && done == lane_count) return;
  if (!failure) failure = Failure{stuck(), "", nullptr, triple(block_index), ""};
  abandon_fibers();
  throw Error(describe(*failure));
}

// From "... (* kernel)(Parameters ...) = mblm::cuda::{anonymous}::forward_rows<float, 4>; ...]": forward_rows<float, 4>.
std::string short_kernel_name(std::string text) {
  const auto at = text.find("kernel)");
  if (at == std::string::npos) return text;
  text = text.substr(text.find(" = ", at) + 3);
  int depth = 0;
  std::size_t end = 0;
  for (; end < text.size(); ++end) {
    if (text[end] == '<' || text[end] == '(' || text[end] == '{') ++depth;
    if (text[end] == '>' || text[end] == ')' || text[end] == '}') --depth;
    if (depth == 0 && (text[end] == ';' || text[end] == ']')) break;
  }
  text = text.substr(0, end);
  const auto scope = text.substr(0, text.find('<')).rfind("::");
  return scope == std::string::npos ? text : text.substr(scope + 2);
}

}  // namespace

Lane& lane_of_block(unsigned index) { return lanes[index]; }

bool in_fiber_guard(const void* p) {
  const char* c = static_cast<const char*>(p);
  return current != nullptr && c >= current->fiber->stack && c < current->fiber->stack + page;
}

void fail(const std::string& what, const Where& where) {
  if (current == nullptr) throw Error(place(where) + ": " + what);
  throw LaneFailure{what, place(where)};
}

// Without unwinding: the caller is a signal handler, or a function that the compiler takes for one that never throws.
void fail_at(const std::string& what, const void* pc) {
  failure = Failure{what, "", pc, triple(block_index), triple(current->thread)};
  static Fiber nobody;
  current = nullptr;
  switch_fiber(nobody, host);
  std::abort();
}

void barrier(const Where& where) {
  Lane& me = *current;
  me.state = Lane::AtBarrier;
  me.where = where;
  if (++at_barrier == lane_count) {
    at_barrier = 0;
    for (unsigned i = 0; i < lane_count; ++i)
      if (lanes[i].where.line() != where.line())
        fail("__syncthreads: thread " + triple(lanes[i].thread) + " is at another one, " + place(lanes[i].where), where);
    note_barrier();
    start_all();
  }
  wait();
}

void meet(const void* tag, const char* name, unsigned mask, const void* in, void* out, Compute compute, bool orders_memory, const Where& where) {
  Lane& me = *current;
  Warp& warp = *me.warp;
  if ((mask >> me.lane & 1u) == 0) fail(std::string(name) + ": the mask does not name the calling lane", where);
  if ((mask & ~warp.present) != 0) fail(std::string(name) + ": the mask names lanes that the block does not have", where);
  if ((mask & warp.done) != 0) fail(std::string(name) + ": the mask names lanes that have returned", where);
  me.state = Lane::AtWarp;
  me.where = where;
  me.tag = tag;
  me.mask = mask;
  warp.in[me.lane] = in;
  warp.out[me.lane] = out;
  warp.waiting |= 1u << me.lane;
  if ((warp.waiting & mask) == mask) {
    Lane* list[warp_lanes];
    unsigned count = 0;
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
      Lane* lane = warp.lanes[std::countr_zero(rest)];
      if (lane->tag != tag || lane->mask != mask || lane->where.line() != where.line())
        fail(std::string(name) + ": lane " + std::to_string(lane->lane) + " is at another warp operation or mask, " + place(lane->where), where);
      list[count++] = lane;
    }
    if (compute != nullptr && mask == 0xffffffffu) compute(warp.in, warp.out, where);
    if (compute != nullptr && mask != 0xffffffffu) {
      const void* ins[warp_lanes] = {};
      void* outs[warp_lanes] = {};
      for (unsigned i = 0; i < count; ++i) {
        ins[list[i]->lane] = warp.in[list[i]->lane];
        outs[list[i]->lane] = warp.out[list[i]->lane];
      }
      compute(ins, outs, where);
    }
    warp.waiting &= ~mask;
    if (orders_memory) note_warp_barrier(list, count);
    release_warp(list, count);
  }
  wait();
}

void check_launch(const char* name, Dim grid, Dim block, std::size_t shared_bytes) {
  const auto refuse = [&](const std::string& why) { throw Error(short_kernel_name(name) + ": launch refused: " + why); };
  const std::uint64_t threads = block.count();
  if (threads == 0 || threads > most_threads || block.z > 64) refuse("a block of " + triple(block) + " threads");
  if (grid.count() == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) refuse("a grid of " + triple(grid) + " blocks");
  if (shared_bytes > settings().shared_bytes)
    refuse(std::to_string(shared_bytes) + " bytes of shared memory, at most " + std::to_string(settings().shared_bytes));
}

void run(const char* name, Dim grid, Dim block, std::size_t shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard lock(emulator_mutex());
  check_launch(name, grid, block, shared_bytes);
  kernel_name = short_kernel_name(name);
  grid_size = grid;
  block_size = block;
  body = &kernel;
  adopt_thread(host);
  prepare_lanes(block);
  prepare_shared(shared_bytes);
  random_order.state = settings().seed;
  const Reachable open;
  note_launch(current_device());
  switches = 0;
  const std::uint64_t blocks = grid.count();
  counts().blocks += blocks;
  // A step that has no factor in common with the number of blocks visits each block once.
  std::uint64_t step = 1, start = 0;
  if (settings().order == Order::Random && blocks > 1) {
    start = random_order.below(blocks);
    do step = 1 + random_order.below(blocks - 1);
    while (std::gcd(step, blocks) != 1);
  }
  for (std::uint64_t n = 0; n < blocks; ++n) {
    const std::uint64_t i = settings().order == Order::Reverse ? blocks - 1 - n : settings().order == Order::Random ? (start + n * step) % blocks : n;
    block_index = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y), static_cast<unsigned>(i / grid.x / grid.y)};
    run_block();
  }
  counts().switches += switches;
}

}  // namespace emulator
