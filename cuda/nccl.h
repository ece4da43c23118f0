// Sums and broadcasts over the GPUs of several processes, by NCCL.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/collective.h"
#include "engine/device.h"

namespace mblm::cuda {

// All workers call it together, each for the device that is current. Returns null on all workers if NCCL cannot be opened on one of them,
// if two workers share a GPU, or if the communicator cannot be created; `on_note` then receives the reason.
// The sum is deterministic for a given number of workers and topology, but NCCL chooses the order of additions.
std::unique_ptr<Collective> open_nccl(int index, int rank, int size, const Exchange& exchange, const std::function<void(const std::string&)>& on_note);

}  // namespace mblm::cuda
