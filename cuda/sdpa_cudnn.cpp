// Long attention by cuDNN's fused kernels. The graphs are the ones that these kernels recognise: NVIDIA's frontend (cudnn_frontend,
// scaled_dot_product_flash_attention.h) builds the same.
#include "cuda/sdpa.h"

#include <map>
#include <memory>
#include <mutex>

#if __has_include(<cudnn.h>)

#include <cmath>
#include <limits>

#include "cuda/cudnn_graph.h"
#include "cuda/relaxed_capture.h"

namespace mblm::cuda {
namespace {

using Id = CudnnGraph::Id;
using Sizes = CudnnGraph::Sizes;

struct Problem {
  std::int64_t batch, tokens, heads, head_size;
  bool causal, backward;
  auto operator<=>(const Problem&) const = default;

  Sizes sizes() const { return {batch, heads, tokens, head_size}; }
  Sizes score_sizes() const { return {batch, heads, tokens, tokens}; }
  Sizes row_sizes() const { return {batch, heads, tokens, 1}; }
  Sizes row_strides() const { return {heads * tokens, tokens, 1, 1}; }
  // Of heads of head_size elements whose tokens are `step` elements apart.
  Sizes strides(std::int64_t step) const { return {tokens * step, head_size, step, 1}; }
};

// The two last axes exchanged.
Sizes transposed(const Sizes& sizes) { return {sizes[0], sizes[1], sizes[3], sizes[2]}; }

// A graph and its tensors. Tensors that the direction does not have stay undefined.
struct Attention {
  CudnnGraph graph;
  Id q, k, v, y, log_sum_exp, dy, dq, dk, dv;
  Id row_sums;                      // backward: dy . y per query, in memory between two of cuDNN's kernels
  Id scale, minus_infinity, one;

  explicit Attention(const Problem& p) {
    const std::int64_t width = p.heads * p.head_size;
    const Sizes in = p.strides(3 * width), out = p.strides(width);
    const Id scores = graph.value(p.score_sizes()), scaled = graph.value(p.score_sizes());
    q = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), in);
    k = graph.in_memory(CUDNN_DATA_BFLOAT16, transposed(p.sizes()), transposed(in));
    v = p.backward ? graph.in_memory(CUDNN_DATA_BFLOAT16, transposed(p.sizes()), transposed(in)) : graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), in);
    y = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), out);
    log_sum_exp = graph.in_memory(CUDNN_DATA_FLOAT, p.row_sizes(), p.row_strides());
    scale = graph.scalar();
    if (p.causal) minus_infinity = graph.scalar();
    if (!p.backward) {
      graph.matmul(scores, q, k);
      graph.pointwise(CUDNN_POINTWISE_MUL, scaled, scores, scale);
      add_softmax(p, masked(p, scaled));
      return;
    }
    dy = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), out);
    dq = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), in);
    dk = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), in);
    dv = graph.in_memory(CUDNN_DATA_BFLOAT16, p.sizes(), in);
    add_row_sums(p);
    graph.matmul(scores, q, k);
    graph.pointwise(CUDNN_POINTWISE_MUL, scaled, scores, scale);
    add_gradients(p, scaled, in);
  }

 private:
  // score[i, j] where j <= i, else minus infinity.
  Id masked(const Problem& p, Id scores) {
    if (!p.causal) return scores;
    const Id row = graph.value(p.score_sizes(), CUDNN_DATA_INT32), column = graph.value(p.score_sizes(), CUDNN_DATA_INT32);
    const Id visible = graph.value(p.score_sizes(), CUDNN_DATA_BOOLEAN), selected = graph.value(p.score_sizes());
    graph.index(row, scores, 2);
    graph.index(column, scores, 3);
    graph.pointwise(CUDNN_POINTWISE_CMP_GE, visible, row, column, {}, CUDNN_DATA_BOOLEAN);
    graph.pointwise(CUDNN_POINTWISE_BINARY_SELECT, selected, scores, minus_infinity, visible);
    return selected;
  }

  void add_softmax(const Problem& p, Id scores) {
    const Id largest = graph.value(p.row_sizes()), below = graph.value(p.score_sizes()), exponentials = graph.value(p.score_sizes());
    const Id sum = graph.value(p.row_sizes()), log = graph.value(p.row_sizes());
    const Id probabilities = graph.value(p.score_sizes(), CUDNN_DATA_BFLOAT16);
    graph.reduce(CUDNN_REDUCE_TENSOR_MAX, largest, scores);
    graph.pointwise(CUDNN_POINTWISE_SUB, below, scores, largest);
    graph.pointwise(CUDNN_POINTWISE_EXP, exponentials, below);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, sum, exponentials);
    graph.pointwise(CUDNN_POINTWISE_LOG, log, sum);
    graph.pointwise(CUDNN_POINTWISE_ADD, log_sum_exp, largest, log);
    graph.pointwise(CUDNN_POINTWISE_DIV, probabilities, exponentials, sum);
    graph.matmul(y, probabilities, v);
  }

  // row_sums = dy . y; cuDNN expects a factor, which is 1 without dropout.
  void add_row_sums(const Problem& p) {
    one = graph.scalar();
    row_sums = graph.in_memory(CUDNN_DATA_FLOAT, p.row_sizes(), p.row_strides());
    const Id products = graph.value(p.sizes()), sums = graph.value(p.row_sizes());
    graph.pointwise(CUDNN_POINTWISE_MUL, products, dy, y);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, sums, products);
    graph.pointwise(CUDNN_POINTWISE_MUL, row_sums, sums, one);
  }

  // p = exp(score - log_sum_exp), dv = p^T dy, ds = scale p (dy v^T - row_sums), dk = ds^T q, dq = ds k. dq is a product with ds in memory
  // (cuDNN's workspace), not a sum that several blocks add to: that is its deterministic form.
  void add_gradients(const Problem& p, Id scores, const Sizes& in) {
    const Sizes packed{p.heads * p.tokens * p.tokens, p.tokens * p.tokens, p.tokens, 1};
    const Id below = graph.value(p.score_sizes()), probabilities = graph.value(p.score_sizes());
    const Id p_transposed = graph.view(p.score_sizes(), transposed(packed), CUDNN_DATA_BFLOAT16);
    graph.pointwise(CUDNN_POINTWISE_SUB, below, scores, log_sum_exp);
    graph.pointwise(CUDNN_POINTWISE_EXP, probabilities, masked(p, below));
    graph.reshape(p_transposed, probabilities);
    graph.matmul(dv, p_transposed, dy);

    const Id dp = graph.value(p.score_sizes()), centered = graph.value(p.score_sizes()), weighted = graph.value(p.score_sizes());
    const Id ds = graph.value(p.score_sizes()), ds_transposed = graph.view(p.score_sizes(), transposed(packed), CUDNN_DATA_BFLOAT16);
    graph.matmul(dp, dy, v);
    graph.pointwise(CUDNN_POINTWISE_SUB, centered, dp, row_sums);
    graph.pointwise(CUDNN_POINTWISE_MUL, weighted, centered, probabilities);
    graph.pointwise(CUDNN_POINTWISE_MUL, ds, weighted, scale);
    graph.reshape(ds_transposed, ds);
    graph.matmul(dk, ds_transposed, q);

    const Id keys = graph.view(p.sizes(), in, CUDNN_DATA_BFLOAT16);
    graph.reshape(keys, k);
    graph.matmul(dq, ds, keys);
  }
};

// The library and its plans on one device.
class Plans {
 public:
  Plans() {
    const RelaxedCapture relaxed;
    check(cudnn().create(&handle_), "cannot use the device");
  }

  // Null if cuDNN refuses the problem. Creating a plan takes up to seconds, once per problem.
  const Attention* find(const Problem& problem) {
    const auto found = plans_.find(problem);
    if (found != plans_.end()) return found->second.get();
    const RelaxedCapture relaxed;
    std::unique_ptr<Attention> attention;
    try {
      attention = std::make_unique<Attention>(problem);
      attention->graph.plan(handle_);
    } catch (const DeviceError& error) {
      attention.reset();
      refusal_ = error.what();
    }
    return (plans_[problem] = std::move(attention)).get();
  }

  void run(const Attention& attention, std::vector<std::pair<Id, const void*>> addresses, std::int64_t head_size, Device device) {
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
  std::map<Problem, std::unique_ptr<Attention>> plans_;
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
  if (!sdpa_takes(qkv, heads)) return false;
  Plans* const all = plans();
  if (all == nullptr) return false;
  const std::int64_t width = qkv.size(2) / 3;
  const std::lock_guard lock(all->mutex());
  const Attention* const attention = all->find({qkv.size(0), qkv.size(1), heads, width / heads, causal, false});
  if (attention == nullptr) return false;
  const bfloat16* const q = data<bfloat16>(qkv);
  all->run(*attention, {{attention->q, q}, {attention->k, q + width}, {attention->v, q + 2 * width}, {attention->y, raw(y)}, {attention->log_sum_exp, raw(log_sum_exp)}},
           width / heads, qkv.device());
  return true;
}

bool sdpa_backward(const Tensor& qkv, const Tensor& y, const Tensor& log_sum_exp, const Tensor& dy, std::int64_t heads, bool causal, Tensor& dqkv) {
  if (!sdpa_takes(qkv, heads)) return false;
  Plans* const all = plans();
  if (all == nullptr) return false;
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3, step = sequences_per_call(batch, heads, tokens);
  const std::lock_guard lock(all->mutex());
  const auto find = [&](std::int64_t sequences) { return all->find({sequences, tokens, heads, width / heads, causal, true}); };
  if (find(step) == nullptr || (batch % step != 0 && find(batch % step) == nullptr)) return false;
  const Tensor row_sums = empty(Shape{step, heads, tokens}, DType::Float32, qkv.device());
  for (std::int64_t first = 0; first < batch; first += step) {
    const Attention& attention = *find(std::min(step, batch - first));
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
