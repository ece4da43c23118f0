#include "tests/fake_device.h"

#include <cstdlib>
#include <cstring>

#include "mblm/mblm.h"

namespace mblm::testing {
namespace {

class FakeRuntime final : public Runtime {
 public:
  std::vector<DeviceInfo> devices() override { return {{fake_device, "host memory", std::size_t{1} << 30}}; }
  void* allocate(int, std::size_t bytes) override {
    ++calls.allocations;
    return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  }
  void release(int, void* data) noexcept override { std::free(data); }
  void fill_zero(int, void* data, std::size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(int, void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void from_host(int, void* to, const void* from, std::size_t bytes) override {
    ++calls.from_host;
    std::memcpy(to, from, bytes);
  }
  void to_host(int, void* to, const void* from, std::size_t bytes) override {
    calls.to_host.push_back(bytes);
    std::memcpy(to, from, bytes);
  }
  void to_host_async(int, Stream, void* pinned, const void* from, std::size_t bytes) override {
    calls.to_host_async.push_back(bytes);
    std::memcpy(pinned, from, bytes);
  }
  void synchronize(int) override { ++calls.synchronizations; }

  RuntimeCalls calls;
};

FakeRuntime& runtime() {
  static FakeRuntime* const fake = new FakeRuntime;  // never destroyed: pools release memory to it at program exit
  return *fake;
}

template <class Signature>
void borrow(Kernel<Signature>& slot) {
  for (int dtype = 0; dtype < dtype_count; ++dtype)
    if (slot.takes(DeviceKind::Cpu, static_cast<DType>(dtype))) slot.add(DeviceKind::Cuda, {static_cast<DType>(dtype)}, slot.function(DeviceKind::Cpu));
}

template <class... Slots>
void borrow_all(Slots&... slots) {
  (borrow(slots), ...);
}

}  // namespace

void add_fake_device() {
  add_runtime(DeviceKind::Cuda, &runtime());
  borrow_all(accumulate, fill, convert, gradient_norm, adam_step, segment_means, count_micro_step, pack_step_sums, unpack_step_sums);
  borrow_all(add_forward, multiply_forward, scale_forward, gelu_forward, gelu_backward, sigmoid_forward, sigmoid_backward, tanh_forward, tanh_backward,
             silu_forward, silu_backward, silu_gate_forward, silu_gate_backward, softplus_forward, softplus_backward, dropout_forward);
  borrow_all(matmul_forward, rms_norm_forward, rms_norm_backward, layer_norm_forward, layer_norm_backward, cross_entropy_forward, cross_entropy_backward,
             argmax_matches_forward, embedding_forward, embedding_backward);
  borrow_all(attention_forward, attention_backward, attention_cached_forward, rotary_forward, token_shift_forward, token_shift_backward,
             causal_conv1d_forward, causal_conv1d_backward, selective_scan_forward, selective_scan_backward, ssd_scan_forward, ssd_scan_backward);
  borrow_all(stage_input_forward, stage_input_backward, sum_over_batch, flatten_patches_forward, flatten_patches_backward, copy_sequence, copy_columns);
}

RuntimeCalls& runtime_calls() { return runtime().calls; }

}  // namespace mblm::testing
