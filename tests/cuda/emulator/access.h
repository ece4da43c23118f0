// Inside of the emulator: what the access checker must know.
#pragma once

#include <cstddef>

#include "tests/cuda/emulator/lane.h"

namespace emulator {

void note_launch(int device);
void note_block();
void note_barrier();
void note_warp_barrier(Lane* const* lanes, unsigned count);
void note_copy_issued(const PendingCopy& copy, const Where& where);
void note_copy_done(const PendingCopy& copy, const Where& where);
void note_block_use(const void* p, std::size_t accessible, std::size_t bytes);
void note_device_copy(void* to, const void* from, std::size_t bytes);

}  // namespace emulator
