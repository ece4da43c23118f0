// Bytes of device memory that the CUDA kernels of a slot read and write, by the plans in the comments above the kernels.
#pragma once

#include <map>
#include <span>
#include <string>

#include "engine/kernel.h"

namespace mblm::testing {

// Bytes of the tensors of a call: each one is read or written once, unless the plan of the slot says otherwise. Excludes what a call
// keeps in memory of its own between two kernels.
double planned_bytes(const KernelSlot& slot, std::span<const Tensor> arguments);

struct Moved {
  std::int64_t calls = 0;
  double planned = 0;
  double measured = 0;  // by the access checker and the stand-ins of the libraries; 0 in a dry run
};

// Adds up the bytes per slot of the kernels that this thread runs, and of the copies and fills between them. Memory that a call allocates,
// for partial sums and the like, is written and read once. Operations of vendor libraries count by their operands. Uses the counts of the
// emulator, starting with its construction.
class SlotBytes final : public KernelObserver {
 public:
  SlotBytes();
  void before(const KernelSlot& slot, Device device, std::span<const Tensor> arguments) override;
  void after(const KernelSlot& slot, Device device) override;
  // Under the names of the slots, and "copies and fills". Includes what came after the last kernel.
  const std::map<std::string, Moved>& slots();

 private:
  void add_copies_and_fills();

  std::map<std::string, Moved> slots_;
  double planned_ = 0;
};

}  // namespace mblm::testing
