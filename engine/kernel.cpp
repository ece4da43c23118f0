#include "engine/kernel.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>

namespace mblm {
namespace {

constinit KernelSlot* first_slot = nullptr;  // written during the loading of backends, read afterwards
constinit thread_local KernelObserver* current_observer = nullptr;

// An error that already names its kernel: a kernel that calls other slots passes it on.
struct NamedKernelError final : DeviceError {
  using DeviceError::DeviceError;
};

}  // namespace

bool KernelSlot::fill(DeviceKind kind, std::initializer_list<DType> dtypes, AnyFunction function) {
  const bool known = std::any_of(functions_.begin(), functions_.end(), [](AnyFunction f) { return f != nullptr; });
  functions_[static_cast<int>(kind)] = function;
  for (const DType dtype : dtypes) dtypes_[static_cast<int>(kind)] |= 1u << static_cast<int>(dtype);
  if (!known) {
    next_ = first_slot;
    first_slot = this;
  }
  return true;
}

void KernelSlot::throw_missing(Device device) const { throw DeviceError(concat_text(name_, ": no ", name_of(device.kind), " kernel")); }

void KernelSlot::throw_mixed(Device a, Device b) const { throw DeviceError(concat_text(name_, ": expected all tensors on one device, got ", a, " and ", b)); }

void KernelSlot::enter(Device device) { runtime_of(device.kind).make_current(device.index); }
void KernelSlot::leave(Device device) { runtime_of(device.kind).kernel_submitted(device.index); }

void KernelSlot::throw_failed(const DeviceError& error, std::span<const Tensor> arguments) const {
  if (dynamic_cast<const NamedKernelError*>(&error) != nullptr) throw;
  std::ostringstream call;
  const char* separator = "";
  for (const Tensor& x : arguments) {
    call << separator;
    if (x.defined()) call << x.dtype() << ' ' << x.shape();
    else call << "undefined";
    separator = ", ";
  }
  throw NamedKernelError(concat_text(name_, ": ", error.what(), "; arguments: ", call.str()));
}

KernelObserverScope::KernelObserverScope(KernelObserver& observer) : before_(std::exchange(current_observer, &observer)) {}
KernelObserverScope::~KernelObserverScope() { current_observer = before_; }
KernelObserver* kernel_observer() { return current_observer; }

std::vector<const KernelSlot*> kernel_slots() {
  std::vector<const KernelSlot*> slots;
  for (const KernelSlot* slot = first_slot; slot != nullptr; slot = slot->next_) slots.push_back(slot);
  std::sort(slots.begin(), slots.end(), [](const KernelSlot* a, const KernelSlot* b) { return std::string_view(a->name()) < b->name(); });
  return slots;
}

}  // namespace mblm
