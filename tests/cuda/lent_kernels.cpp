#include "tests/cuda/lent_kernels.h"

#include <cuda_runtime.h>

#include <tuple>

#include "cuda/launch.h"
#include "engine/elementwise.h"
#include "engine/kernel_data.h"
#include "mblm/mblm.h"

namespace mblm {

// Gives tests the functions of a slot.
class KernelLender {
 public:
  template <class... Args>
  static void call_on_cpu(const Kernel<void(Args...)>& slot, std::type_identity_t<Args>... args) {
    reinterpret_cast<void (*)(Args...)>(slot.function(DeviceKind::Cpu))(args...);
  }
  // The dtypes of the CPU's kernel.
  static void copy_dtypes(KernelSlot& slot) { slot.dtypes_[1] = slot.dtypes_[0]; }
};

}  // namespace mblm

namespace mblm::testing {
namespace {

// The same elements as a tensor of the CPU that does not own them: work in a stream does not keep memory alive.
Tensor borrowed(const Tensor& x) {
  if (!x.defined()) return x;
  return Tensor(std::make_shared<Storage>(raw(x), x.bytes(), nullptr), 0, x.shape(), x.dtype());
}

template <class T>
T borrowed_argument(const T& argument) {
  if constexpr (std::is_same_v<T, Tensor>) {
    return borrowed(argument);
  } else {
    T copy = argument;
    if constexpr (detail::HasTensors<T>) copy.visit_tensors([](const Tensor& x) { const_cast<Tensor&>(x) = borrowed(x); });
    return copy;
  }
}

template <auto& slot>
struct Lent;
template <class... Args, Kernel<void(Args...)>& slot>
struct Lent<slot> {
  static void run(Args... args) {
    emulator::enqueue(cuda::compute_stream(), [values = std::make_tuple(borrowed_argument<std::remove_cvref_t<Args>>(args)...)]() mutable {
      std::apply([](auto&... all) { KernelLender::call_on_cpu(slot, all...); }, values);
    });
  }
  static int fill() {
    if (slot.has(DeviceKind::Cuda)) return 0;
    slot.add(DeviceKind::Cuda, {}, run);
    KernelLender::copy_dtypes(slot);
    return 1;
  }
};

template <auto&... slots>
int fill_all() {
  return (Lent<slots>::fill() + ...);
}

}  // namespace

int lend_cpu_kernels() {
  return fill_all<accumulate, fill, convert, gradient_norm, adam_step, segment_means, add_forward, argmax_matches_forward, attention_forward,
                  attention_backward, causal_conv1d_forward, causal_conv1d_backward, copy_columns, cross_entropy_forward, cross_entropy_backward,
                  dropout_forward, embedding_forward, embedding_backward, gelu_forward, gelu_backward, layer_norm_forward, layer_norm_backward,
                  matmul_forward, multiply_forward, rms_norm_forward, rms_norm_backward, rotary_forward, scale_forward, selective_scan_forward,
                  selective_scan_backward, stage_input_forward, stage_input_backward, sum_over_batch, flatten_patches_forward,
                  flatten_patches_backward, copy_sequence, sigmoid_forward, sigmoid_backward, silu_forward, silu_backward, silu_gate_forward,
                  silu_gate_backward, softplus_forward, softplus_backward, ssd_scan_forward, ssd_scan_backward, count_micro_step, pack_step_sums,
                  unpack_step_sums, tanh_forward, tanh_backward, token_shift_forward, token_shift_backward>();
}

}  // namespace mblm::testing
