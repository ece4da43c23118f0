// What the stand-ins of the vendor libraries check of an address, and how they make their writes known to the access checker.
#pragma once

#include "cuda/kernel.h"

namespace mblm::testing {

// A range of device memory that a library reads or writes.
struct Extent {
  const char* name;
  const void* begin;
  std::int64_t bytes;

  bool overlaps(const Extent& other) const {
    const char *a = static_cast<const char*>(begin), *b = static_cast<const char*>(other.begin);
    return bytes > 0 && other.bytes > 0 && a < b + other.bytes && b < a + bytes;
  }
};

// Throws DeviceError unless the extent is aligned and in an allocation.
inline void check_extent(const char* what, const Extent& e, std::size_t alignment) {
  require<DeviceError>(cuda::is_aligned(e.begin, alignment), what, ": expected ", e.name, " aligned to ", alignment, " bytes, got ", e.begin);
  require<DeviceError>(e.bytes == 0 || emulator::in_live_memory(e.begin, static_cast<std::size_t>(e.bytes)), what, ": expected ", e.bytes,
                       " bytes of device memory for ", e.name, ", the allocation at ", e.begin, " has fewer");
}

inline void check_disjoint(const char* what, const Extent& output, std::initializer_list<Extent> others) {
  for (const Extent& other : others)
    require<DeviceError>(!output.overlaps(other), what, ": ", output.name, " overlaps ", other.name);
}

}  // namespace mblm::testing
