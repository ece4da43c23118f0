// The operation graphs of attention as cuDNN's fused kernels recognise them: NVIDIA's frontend builds the same
// (cudnn_frontend, scaled_dot_product_flash_attention.h).
#pragma once

#include <compare>

#include "cuda/cudnn_graph.h"

namespace mblm::cuda {

struct AttentionProblem {
  std::int64_t batch, tokens, heads, head_size;
  bool causal, backward;
  auto operator<=>(const AttentionProblem&) const = default;
};

// A graph and its tensors. Tensors that the direction does not have stay undefined.
class AttentionGraph {
 public:
  using Id = CudnnTensor;
  explicit AttentionGraph(const AttentionProblem& problem);

  CudnnGraph graph;
  Id q, k, v, y, log_sum_exp, dy, dq, dk, dv;
  Id row_sums;                    // backward: dy . y per query, in memory between two of cuDNN's kernels
  Id scale, minus_infinity, one;  // scalars: 1 / sqrt(head_size), the score of an invisible key, 1

 private:
  using Sizes = CudnnGraph::Sizes;
  Id masked(Id scores);
  void add_softmax(Id scores);
  void add_row_sums();
  void add_gradients(Id scores);

  const AttentionProblem p_;
  const Sizes vectors_, scores_, rows_;  // sizes of q, of the scores and of a number per query
  const Sizes in_, out_;                 // strides of q in qkv, and of y
};

}  // namespace mblm::cuda
