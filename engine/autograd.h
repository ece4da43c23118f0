// Reverse-mode differentiation. Each op records one node with a lambda that turns the gradients of its outputs into
// gradients of its inputs. Node ids increase in the order of creation, so descending ids are a reverse topological order:
// backward is one loop without recursion, and a nested backward (recomputation) is an ordinary call.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/kernel.h"
#include "engine/tensor.h"

namespace mblm {

// Computes the gradients of the inputs from the gradients of the outputs, both in order. The gradient of an unused output
// is undefined. The result may be undefined for an input that requires no gradient; for any other input it must be a
// tensor or GradSlot::done().
using BackwardFn = std::function<std::vector<Tensor>(std::span<const Tensor> dys)>;

struct Edge {
  std::shared_ptr<Node> node;  // null: the input requires no gradient
  int output = 0;
  Shape shape;  // of the input and its gradient
  DType dtype = DType::Float32;  // likewise; the gradient of a parameter's bfloat16 copy may have either dtype of the parameter
};

struct Node {
  const char* name;
  std::uint64_t id;
  int outputs;
  std::vector<Edge> inputs;
  BackwardFn backward;   // empty for a leaf, and after the first run
  Tensor gradient_view;  // the gradient in the arena (engine/parameters.h) if this is the leaf of a parameter
  bool is_leaf = false;
};

std::shared_ptr<Node> make_leaf(Tensor gradient_view = {});

// An input of an op. Refers to the tensor, which must outlive the call: copies would be made for nothing when nothing is recorded.
class Input {
 public:
  Input(const Tensor& x) : tensor_(&x) {}
  operator const Tensor&() const { return *tensor_; }

 private:
  const Tensor* tensor_;
};

// Records an op: attaches a node to the outputs when recording is on and an input requires a gradient; otherwise drops the
// lambda. The lambda keeps its captured tensors alive. It must capture outputs before this call: an output with a history
// refers to the node, which would make a cycle. Without recording nothing is allocated.
template <class F>
Tensor record(const char* name, std::initializer_list<Input> inputs, const Tensor& output, F&& backward);
template <class F>
std::vector<Tensor> record_many(const char* name, std::initializer_list<Input> inputs, std::vector<Tensor> outputs, F&& backward);
// Overload for a number of inputs that is known only at run time.
template <class F>
Tensor record(const char* name, std::span<const Tensor> inputs, const Tensor& output, F&& backward);

bool is_recording();  // on this thread
bool any_wants_grad(std::span<const Tensor> inputs);  // false when recording is off
bool any_wants_grad(std::initializer_list<Input> inputs);
// For ops without a backward: throws GradientError when recording is on and an input requires a gradient.
void refuse_gradient(const char* name, std::initializer_list<Input> inputs);

namespace detail {
// The outputs with the history of a new node.
std::vector<Tensor> with_history(const char* name, std::span<const Tensor> inputs, std::vector<Tensor> outputs, BackwardFn backward);
}  // namespace detail

template <class F>
Tensor record(const char* name, std::span<const Tensor> inputs, const Tensor& output, F&& backward) {
  if (!any_wants_grad(inputs)) return output;
  return detail::with_history(name, inputs, {output.detach()}, [f = std::forward<F>(backward)](std::span<const Tensor> dys) { return f(dys[0]); })[0];
}
template <class F>
Tensor record(const char* name, std::initializer_list<Input> inputs, const Tensor& output, F&& backward) {
  if (!any_wants_grad(inputs)) return output;
  const std::vector<Tensor> tensors(inputs.begin(), inputs.end());
  return record(name, std::span<const Tensor>(tensors), output, std::forward<F>(backward));
}
template <class F>
std::vector<Tensor> record_many(const char* name, std::initializer_list<Input> inputs, std::vector<Tensor> outputs, F&& backward) {
  if (!any_wants_grad(inputs)) return outputs;
  const std::vector<Tensor> tensors(inputs.begin(), inputs.end());
  return detail::with_history(name, tensors, std::move(outputs), std::forward<F>(backward));
}

// Turns recording off on this thread during its lifetime, for inference.
class NoGradScope {
 public:
  NoGradScope();
  ~NoGradScope();
  NoGradScope(const NoGradScope&) = delete;
  NoGradScope& operator=(const NoGradScope&) = delete;

 private:
  bool before_;
};

// The destination for the gradient of a weight. For a parameter it is a view of the gradient arena, to which the kernel
// adds (beta 1); for any other tensor it is a new tensor of the weight's dtype, which the kernel overwrites (beta 0). The
// lambda returns done() for that input.
struct GradSlot {
  Tensor tensor;
  float beta = 0;
  Tensor done() const;
};
GradSlot grad_slot(const Tensor& weight);

// Computes the gradients of sum_i <outputs_i, douts_i>. Adds the gradients of parameters to the arena and returns the
// gradients of `wrt` (other leaves), which are zero where the outputs do not depend on the leaf; they may share elements
// with each other and with `douts`. Consumes the graph. Throws GradientError when the graph is already consumed, when an
// op returns no gradient for an input that requires one, and when it returns the arena view instead of GradSlot::done();
// throws ShapeError or DTypeError when a tensor and its gradient differ in shape or dtype.
std::vector<Tensor> backward(std::span<const Tensor> outputs, std::span<const Tensor> douts, std::span<const Tensor> wrt = {});
// Overload for one scalar, whose gradient is `scale`.
std::vector<Tensor> backward(const Tensor& loss, std::span<const Tensor> wrt = {}, double scale = 1.0);

// Returns f(inputs) and keeps only the inputs: the backward pass runs f again and differentiates it at once. f must return
// the same values each time (random numbers are stateless, so dropout does). Tensors that require a gradient must be inputs
// or parameters: backward throws GradientError for any other tensor that f uses.
Tensor checkpoint(const char* name, std::span<const Tensor> inputs, std::function<Tensor(std::span<const Tensor>)> f);

}  // namespace mblm
