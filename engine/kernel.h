// Kernel slots: typed functions with one implementation per kind of device, declared by an op and filled by the backends.
#pragma once

#include <array>
#include <atomic>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/error.h"
#include "engine/tensor.h"
#include "engine/tiny_numbers.h"

namespace mblm {

// The part of a slot that does not depend on its signature. Thread-safe: a backend may fill slots while other threads call them.
class KernelSlot {
 public:
  constexpr explicit KernelSlot(const char* name) : name_(name) {}
  KernelSlot(const KernelSlot&) = delete;
  KernelSlot& operator=(const KernelSlot&) = delete;

  const char* name() const { return name_; }
  bool has(DeviceKind kind) const { return function(kind) != nullptr; }
  bool takes(DeviceKind kind, DType dtype) const { return ((dtypes_[static_cast<std::size_t>(kind)] >> static_cast<int>(dtype)) & 1u) != 0; }

 protected:
  using AnyFunction = void (*)();  // a Kernel's Function without its type
  AnyFunction function(DeviceKind kind) const { return functions_[static_cast<std::size_t>(kind)].load(std::memory_order_acquire); }
  bool fill(DeviceKind kind, std::initializer_list<DType> dtypes, AnyFunction function);
  [[noreturn]] void throw_missing(Device device) const;
  [[noreturn]] void throw_mixed(Device a, Device b) const;
  // Before and after a call on a device that runs it later.
  static void enter(Device device);
  static void leave(Device device);
  [[noreturn]] void throw_failed(const DeviceError& error, std::span<const Tensor> arguments) const;

 private:
  friend std::vector<const KernelSlot*> kernel_slots();
  friend class KernelLender;  // lets a test device use the CPU's kernels
  const char* name_;
  std::array<std::atomic<AnyFunction>, device_kinds> functions_{};
  std::array<std::atomic<unsigned>, device_kinds> dtypes_{};
  KernelSlot* next_ = nullptr;
};

// All slots that a backend fills, sorted by name. `mblm info kernels` prints them.
std::vector<const KernelSlot*> kernel_slots();

// Watches the kernels that a thread runs, to time or count them. `arguments` are the tensors of the call, some of them undefined.
class KernelObserver {
 public:
  virtual ~KernelObserver() = default;
  virtual void before(const KernelSlot& slot, Device device, std::span<const Tensor> arguments) = 0;
  virtual void after(const KernelSlot& slot, Device device) = 0;
};

// Calls `observer` around each kernel of this thread during its lifetime; the innermost scope counts.
class KernelObserverScope {
 public:
  explicit KernelObserverScope(KernelObserver& observer);
  ~KernelObserverScope();
  KernelObserverScope(const KernelObserverScope&) = delete;
  KernelObserverScope& operator=(const KernelObserverScope&) = delete;

 private:
  KernelObserver* before_;
};
KernelObserver* kernel_observer();  // of this thread, or null

namespace detail {

// Argument for the check below: a struct with tensors has a visit_tensors that accepts it.
struct IgnoreTensor {
  void operator()(const Tensor&) const {}
};
template <class T>
concept HasTensors = requires(const T& argument) { argument.visit_tensors(IgnoreTensor{}); };

}  // namespace detail

// `Kernel<void(const Tensor& x, Tensor& y)> rms_norm_forward{"rms_norm_forward"};`
// The slots of an op are named `<op>_forward` and `<op>_backward`; a primitive without a gradient, which writes into given
// tensors, is named by a verb (`accumulate`, `copy_columns`).
// A call runs the implementation for the device of the tensor arguments and ignores undefined tensors. A struct argument that
// holds tensors lists them: `template <class F> void visit_tensors(F&& f) const { f(a); f(b); }`.
// Throws DeviceError when the tensors are on several devices, or when the backend of the device does not fill the slot. A DeviceError
// of the implementation is extended by the slot's name and the shapes and dtypes of the tensors.
template <class Signature> class Kernel;
template <class... Args> class Kernel<void(Args...)> : public KernelSlot {
 public:
  using Function = void (*)(Args...);
  using KernelSlot::KernelSlot;

  // Sets the implementation for one kind of device; `dtypes` are the main element types that it supports. Returns true, so
  // that a backend can write `const bool added = rms_norm_forward.add(...)` at namespace scope.
  bool add(DeviceKind kind, std::initializer_list<DType> dtypes, Function function) {
    return fill(kind, dtypes, reinterpret_cast<AnyFunction>(function));
  }

  void operator()(Args... args) const {
    Device device;
    bool found = false;
    (see(args, device, found), ...);
    if (!has(device.kind)) throw_missing(device);
    const auto implementation = reinterpret_cast<Function>(function(device.kind));
    KernelObserver* const observer = kernel_observer();
    if (observer != nullptr) [[unlikely]] observer->before(*this, device, tensors_of(args...));
    if (device.kind == DeviceKind::Cpu) {
      const TinyNumbersAsZero mode;
      implementation(args...);
    } else {
      try {
        enter(device);
        implementation(args...);
        leave(device);
      } catch (const DeviceError& error) {
        throw_failed(error, tensors_of(args...));
      }
    }
    if (observer != nullptr) [[unlikely]] observer->after(*this, device);
  }

 private:
  template <class T> void see(const T& argument, Device& device, bool& found) const {
    if constexpr (std::is_same_v<T, Tensor>) {
      if (!argument.defined()) return;
      if (found && !(argument.device() == device)) throw_mixed(device, argument.device());
      device = argument.device();
      found = true;
    } else if constexpr (detail::HasTensors<T>) {
      argument.visit_tensors([&](const Tensor& x) { see(x, device, found); });
    } else {
      static_assert(std::is_trivially_copyable_v<T>, "a struct argument that may hold tensors needs visit_tensors");
    }
  }
  std::vector<Tensor> tensors_of(const std::remove_reference_t<Args>&... args) const {
    std::vector<Tensor> tensors;
    (collect(args, tensors), ...);
    return tensors;
  }
  template <class T> void collect(const T& argument, std::vector<Tensor>& tensors) const {
    if constexpr (std::is_same_v<T, Tensor>) {
      tensors.push_back(argument.detach());
    } else if constexpr (detail::HasTensors<T>) {
      argument.visit_tensors([&](const Tensor& x) { tensors.push_back(x.detach()); });
    }
  }
};

}  // namespace mblm
