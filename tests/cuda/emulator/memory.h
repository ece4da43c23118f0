// Inside of the emulator: device memory, and the state that its parts share.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>

#include "tests/cuda/emulator/emulator.h"

namespace emulator {

std::recursive_mutex& emulator_mutex();  // held by whatever changes or runs something
int current_device();

// The addresses that a device can give out, and the part of them given out so far.
struct Arena {
  char* begin = nullptr;
  std::size_t used = 0;
  std::size_t live_bytes = 0;  // of the allocations that exist
};
inline constexpr std::size_t arena_bytes = std::size_t{256} << 30;
Arena& arena(int device);

int device_of(const void* p);  // -1: not device memory
// The allocation that contains the address, or null. Sizes are those asked for.
struct Allocation {
  char* begin;
  std::size_t bytes;
  bool live;
};
const Allocation* find_allocation(const void* p);
bool is_pinned(const void* p, std::size_t bytes);

// Device memory can be accessed while one of these exists.
class Reachable {
 public:
  Reachable();
  ~Reachable();
  Reachable(const Reachable&) = delete;
  Reachable& operator=(const Reachable&) = delete;
};

// Reports accesses to memory out of reach: as an error of the kernel that runs, or, in host code, on stderr before the program ends.
void watch_faults();

}  // namespace emulator
