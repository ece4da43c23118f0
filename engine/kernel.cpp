#include "engine/kernel.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <sstream>
#include <string_view>
#include <utility>

namespace mblm {
namespace {

// The list of slots that are filled. A slot enters it once, complete, under the lock of the writers; readers need no lock.
constinit std::atomic<KernelSlot*> first_slot = nullptr;
constinit std::mutex filling;
constinit thread_local KernelObserver* current_observer = nullptr;

// An error that already names its kernel: a kernel that calls other slots passes it on.
struct NamedKernelError final : DeviceError {
  using DeviceError::DeviceError;
};

}  // namespace

bool KernelSlot::fill(DeviceKind kind, std::initializer_list<DType> dtypes, AnyFunction function) {
  const std::lock_guard lock(filling);
  const bool known = std::any_of(functions_.begin(), functions_.end(), [](const auto& f) { return f != nullptr; });
  for (const DType dtype : dtypes) dtypes_[static_cast<std::size_t>(kind)] |= 1u << static_cast<int>(dtype);
  functions_[static_cast<std::size_t>(kind)].store(function, std::memory_order_release);
  if (!known) {
    next_ = first_slot.load(std::memory_order_relaxed);
    first_slot.store(this, std::memory_order_release);
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
  for (const KernelSlot* slot = first_slot.load(std::memory_order_acquire); slot != nullptr; slot = slot->next_) slots.push_back(slot);
  std::sort(slots.begin(), slots.end(), [](const KernelSlot* a, const KernelSlot* b) { return std::string_view(a->name()) < b->name(); });
  return slots;
}

}  // namespace mblm
