#include "cuda/sdpa_graph.h"

namespace mblm::cuda {
namespace {

using Id = CudnnTensor;
using Sizes = CudnnGraph::Sizes;

// The two last axes exchanged.
Sizes transposed(const Sizes& sizes) { return {sizes[0], sizes[1], sizes[3], sizes[2]}; }

// Of (B, T, ..., H, d) arrays as (B, H, T, d), whose tokens are `step` elements apart.
Sizes strides_of(const AttentionProblem& p, std::int64_t step) { return {p.tokens * step, p.head_size, step, 1}; }

}  // namespace

AttentionGraph::AttentionGraph(const AttentionProblem& p)
    : p_(p), vectors_{p.batch, p.heads, p.tokens, p.head_size}, scores_{p.batch, p.heads, p.tokens, p.tokens}, rows_{p.batch, p.heads, p.tokens, 1},
      in_(strides_of(p, 3 * p.heads * p.head_size)), out_(strides_of(p, p.heads * p.head_size)) {
  q = graph.in_memory(CUDNN_DATA_BFLOAT16, vectors_, in_);
  k = graph.in_memory(CUDNN_DATA_BFLOAT16, transposed(vectors_), transposed(in_));
  v = p.backward ? graph.in_memory(CUDNN_DATA_BFLOAT16, transposed(vectors_), transposed(in_)) : graph.in_memory(CUDNN_DATA_BFLOAT16, vectors_, in_);
  y = graph.in_memory(CUDNN_DATA_BFLOAT16, vectors_, out_);
  log_sum_exp = graph.in_memory(CUDNN_DATA_FLOAT, rows_, {p.heads * p.tokens, p.tokens, 1, 1});
  scale = graph.scalar();
  if (p.causal) minus_infinity = graph.scalar();
  if (p.backward) add_row_sums();
  const Id products = graph.value(scores_), scores = graph.value(scores_);
  graph.matmul(products, q, k);
  graph.pointwise(CUDNN_POINTWISE_MUL, scores, products, scale);
  if (p.backward)
    add_gradients(scores);
  else
    add_softmax(masked(scores));
}

// scores[i, j] where j <= i, else minus infinity.
Id AttentionGraph::masked(Id scores) {
  if (!p_.causal) return scores;
  const Id row = graph.value(scores_, CUDNN_DATA_INT32), column = graph.value(scores_, CUDNN_DATA_INT32);
  const Id visible = graph.value(scores_, CUDNN_DATA_BOOLEAN), selected = graph.value(scores_);
  graph.index(row, scores, 2);
  graph.index(column, scores, 3);
  graph.pointwise(CUDNN_POINTWISE_CMP_GE, visible, row, column, {}, CUDNN_DATA_BOOLEAN);
  graph.pointwise(CUDNN_POINTWISE_BINARY_SELECT, selected, scores, minus_infinity, visible);
  return selected;
}

void AttentionGraph::add_softmax(Id scores) {
  const Id largest = graph.value(rows_), below = graph.value(scores_), exponentials = graph.value(scores_);
  const Id sum = graph.value(rows_), log = graph.value(rows_), probabilities = graph.value(scores_, CUDNN_DATA_BFLOAT16);
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
void AttentionGraph::add_row_sums() {
  dy = graph.in_memory(CUDNN_DATA_BFLOAT16, vectors_, out_);
  row_sums = graph.in_memory(CUDNN_DATA_FLOAT, rows_, {p_.heads * p_.tokens, p_.tokens, 1, 1});
  one = graph.scalar();
  const Id products = graph.value(vectors_), sums = graph.value(rows_);
  graph.pointwise(CUDNN_POINTWISE_MUL, products, dy, y);
  graph.reduce(CUDNN_REDUCE_TENSOR_ADD, sums, products);
  graph.pointwise(CUDNN_POINTWISE_MUL, row_sums, sums, one);
}

// p = exp(score - log_sum_exp), dv = p^T dy, ds = scale p (dy v^T - row_sums), dk = ds^T q, dq = ds k. dq is a product with ds in memory
// (cuDNN's workspace), not a sum that several blocks add to: that is its deterministic form.
void AttentionGraph::add_gradients(Id scores) {
  for (Id* gradient : {&dq, &dk, &dv}) *gradient = graph.in_memory(CUDNN_DATA_BFLOAT16, vectors_, in_);
  const Sizes transposed_strides{p_.heads * p_.tokens * p_.tokens, p_.tokens * p_.tokens, 1, p_.tokens};
  const Id below = graph.value(scores_), probabilities = graph.value(scores_), transposed_p = graph.view(scores_, transposed_strides, CUDNN_DATA_BFLOAT16);
  graph.pointwise(CUDNN_POINTWISE_SUB, below, scores, log_sum_exp);
  graph.pointwise(CUDNN_POINTWISE_EXP, probabilities, masked(below));
  graph.reshape(transposed_p, probabilities);
  graph.matmul(dv, transposed_p, dy);

  const Id dp = graph.value(scores_), centered = graph.value(scores_), weighted = graph.value(scores_), ds = graph.value(scores_);
  const Id transposed_ds = graph.view(scores_, transposed_strides, CUDNN_DATA_BFLOAT16);
  graph.matmul(dp, dy, v);
  graph.pointwise(CUDNN_POINTWISE_SUB, centered, dp, row_sums);
  graph.pointwise(CUDNN_POINTWISE_MUL, weighted, centered, probabilities);
  graph.pointwise(CUDNN_POINTWISE_MUL, ds, weighted, scale);
  graph.reshape(transposed_ds, ds);
  graph.matmul(dk, transposed_ds, q);

  const Id keys = graph.view(vectors_, in_, CUDNN_DATA_BFLOAT16);
  graph.reshape(keys, k);
  graph.matmul(dq, ds, keys);
}

}  // namespace mblm::cuda
