// Long attention by cuDNN's fused kernels.
#include "cuda/sdpa.h"

#include <map>
#include <memory>
#include <mutex>

#if __has_include(<cudnn.h>)

#include <cmath>
#include <limits>

#include "cuda/relaxed_capture.h"
#include "cuda/sdpa_graph.h"

namespace mblm::cuda {
namespace {

// The library and its plans on one device.
class Plans {
 public:
  Plans() {
    const RelaxedCapture relaxed;
    check(cudnn().create(&handle_), "cannot use the device");
  }

  // Null if cuDNN refuses the problem. Creating a plan takes up to seconds, once per problem.
  const AttentionGraph* find(const AttentionProblem& problem) {
    const auto found = plans_.find(problem);
    if (found != plans_.end()) return found->second.get();
    const RelaxedCapture relaxed;
    std::unique_ptr<AttentionGraph> attention;
    try {
      attention = std::make_unique<AttentionGraph>(problem);
      attention->graph.plan(handle_);
    } catch (const DeviceError& error) {
      attention.reset();
      refusal_ = error.what();
    }
    return (plans_[problem] = std::move(attention)).get();
  }

  void run(const AttentionGraph& attention, std::vector<std::pair<CudnnTensor, const void*>> addresses, std::int64_t head_size, Device device) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_size)), one = 1;
    // Before version 9.10, the kernels expect a finite value.
    const float minus_infinity = cudnn().version() < 91000 ? std::numeric_limits<float>::lowest() : -std::numeric_limits<float>::infinity();
    addresses.emplace_back(attention.scale, &scale);
    if (attention.minus_infinity) addresses.emplace_back(attention.minus_infinity, &minus_infinity);
    if (attention.one) addresses.emplace_back(attention.one, &one);
    Tensor workspace;
    if (attention.graph.workspace_bytes() > 0) workspace = empty(Shape{attention.graph.workspace_bytes()}, DType::UInt8, device);
    check(cudnn().set_stream(handle_, compute_stream()), "cannot use the stream");
    attention.graph.execute(handle_, addresses, raw(workspace));
  }

  std::mutex& mutex() { return mutex_; }
  const std::string& refusal() const { return refusal_; }

 private:
  std::mutex mutex_;
  cudnnHandle_t handle_ = nullptr;
  std::map<AttentionProblem, std::unique_ptr<AttentionGraph>> plans_;
  std::string refusal_;
};

struct Devices {
  std::mutex mutex;
  std::map<int, std::unique_ptr<Plans>> plans;  // never destroyed: the driver may be gone when the program ends
  std::string problem;
};
Devices& devices() {
  static Devices* const all = new Devices;
  return *all;
}

// Of the current device; null if cuDNN is missing or does not support the device, which is asked for once.
Plans* plans() {
  Devices& all = devices();
  int device = 0;
  check(cudaGetDevice(&device));
  const std::lock_guard lock(all.mutex);
  const auto found = all.plans.find(device);
  if (found != all.plans.end()) return found->second.get();
  std::unique_ptr<Plans> created;
  try {
    created = std::make_unique<Plans>();
  } catch (const DeviceError& error) {
    all.problem = error.what();
  }
  return (all.plans[device] = std::move(created)).get();
}

// Sequences per call of the backward pass. Its workspace holds ds, T^2 bfloat16 per head; 2 GiB are enough to fill a GPU.
std::int64_t sequences_per_call(std::int64_t sequences, std::int64_t heads, std::int64_t tokens) {
  constexpr std::int64_t largest_workspace = std::int64_t{2} << 30;
  return std::clamp<std::int64_t>(largest_workspace / (2 * heads * tokens * tokens), 1, sequences);
}

}  // namespace

bool sdpa_forward(const Tensor& qkv, std::int64_t heads, bool causal, Tensor& y, Tensor& log_sum_exp) {
  if (!sdpa_takes(qkv, heads) || !sdpa_aligned({&y, &log_sum_exp})) return false;
  Plans* const all = plans();
  if (all == nullptr) return false;
  const std::int64_t width = qkv.size(2) / 3;
  const std::lock_guard lock(all->mutex());
  const AttentionGraph* const attention = all->find({qkv.size(0), qkv.size(1), heads, width / heads, causal, false});
  if (attention == nullptr) return false;
  const bfloat16* const q = data<bfloat16>(qkv);
  all->run(*attention, {{attention->q, q}, {attention->k, q + width}, {attention->v, q + 2 * width}, {attention->y, raw(y)}, {attention->log_sum_exp, raw(log_sum_exp)}},
           width / heads, qkv.device());
  return true;
}

bool sdpa_backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, std::int64_t heads, bool causal, Tensor& dqkv) {
  if (!sdpa_takes(qkv, heads) || !sdpa_aligned({&y, &log_sum_exp, &dy, &dqkv})) return false;
  Plans* const all = plans();
  if (all == nullptr) return false;
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3, step = sequences_per_call(batch, heads, tokens);
  if (step < batch && static_cast<std::size_t>(heads * tokens) * sizeof(float) % sdpa_alignment != 0) return false;  // a later call's log_sum_exp is not aligned
  const std::lock_guard lock(all->mutex());
  const auto find = [&](std::int64_t sequences) { return all->find({sequences, tokens, heads, width / heads, causal, true}); };
  if (find(step) == nullptr || (batch % step != 0 && find(batch % step) == nullptr)) return false;
  const Tensor row_sums = empty(Shape{step, heads, tokens}, DType::Float32, qkv.device());
  for (std::int64_t first = 0; first < batch; first += step) {
    const AttentionGraph& attention = *find(std::min(step, batch - first));
    const bfloat16* const q = data<bfloat16>(qkv) + first * tokens * 3 * width;
    bfloat16* const dq = data<bfloat16>(dqkv) + first * tokens * 3 * width;
    all->run(attention,
             {{attention.q, q}, {attention.k, q + width}, {attention.v, q + 2 * width}, {attention.dq, dq}, {attention.dk, dq + width},
              {attention.dv, dq + 2 * width}, {attention.y, data<bfloat16>(y) + first * tokens * width},
              {attention.dy, data<bfloat16>(dy) + first * tokens * width},
              {attention.log_sum_exp, data<float>(log_sum_exp) + first * heads * tokens}, {attention.row_sums, raw(row_sums)}},
             width / heads, qkv.device());
  }
  return true;
}

std::string sdpa_problem() {
  try {
    cudnn();
  } catch (const DeviceError& error) {
    return error.what();
  }
  Devices& all = devices();
  const std::lock_guard lock(all.mutex);
  std::string problem = all.problem;
  for (const auto& [device, plans] : all.plans)
    if (problem.empty() && plans != nullptr) {
      const std::lock_guard plans_lock(plans->mutex());
      problem = plans->refusal();
    }
  return problem;
}

}  // namespace mblm::cuda

#else

namespace mblm::cuda {

bool sdpa_forward(const Tensor&, std::int64_t, bool, Tensor&, Tensor&) { return false; }
bool sdpa_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, std::int64_t, bool, Tensor&) { return false; }
std::string sdpa_problem() { return "cuDNN: built without its headers"; }

}  // namespace mblm::cuda

#endif
