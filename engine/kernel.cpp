#include "engine/kernel.h"

#include <algorithm>
#include <string_view>

namespace mblm {
namespace {

constinit KernelSlot* first_slot = nullptr;  // written during the loading of backends, read afterwards

}  // namespace

bool KernelSlot::note_filled(DeviceKind kind, std::initializer_list<DType> dtypes) {
  const bool known = std::find(filled_.begin(), filled_.end(), true) != filled_.end();
  filled_[static_cast<int>(kind)] = true;
  for (const DType dtype : dtypes) dtypes_[static_cast<int>(kind)] |= 1u << static_cast<int>(dtype);
  if (!known) {
    next_ = first_slot;
    first_slot = this;
  }
  return true;
}

void KernelSlot::throw_missing(Device device) const { throw DeviceError(concat_text(name_, ": no ", name_of(device.kind), " kernel")); }

void KernelSlot::throw_mixed(Device a, Device b) const { throw DeviceError(concat_text(name_, ": expected all tensors on one device, got ", a, " and ", b)); }

std::vector<const KernelSlot*> kernel_slots() {
  std::vector<const KernelSlot*> slots;
  for (const KernelSlot* slot = first_slot; slot != nullptr; slot = slot->next_) slots.push_back(slot);
  std::sort(slots.begin(), slots.end(), [](const KernelSlot* a, const KernelSlot* b) { return std::string_view(a->name()) < b->name(); });
  return slots;
}

}  // namespace mblm
