// Reverse-mode differentiation. Each op records one node with a lambda that turns the gradients of its outputs into
// gradients of its inputs. Node ids grow with creation, so decreasing id is a reverse topological order: backward is one
// loop, nothing is recursive, and a backward inside a backward (recomputation) is an ordinary call.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "engine/kernel.h"
#include "engine/tensor.h"

namespace mblm {

// Gradients of the inputs from those of the outputs, in order. An output that nothing used has an undefined gradient.
// An input that wants no gradient may get an undefined one; any other must get a tensor, or GradSlot::done().
using BackwardFn = std::function<std::vector<Tensor>(std::span<const Tensor> dys)>;

struct Edge {
  std::shared_ptr<Node> node;  // null: this input wants no gradient
  int output = 0;
  Shape shape;  // of the input, and of its gradient
};

struct Node {
  const char* name;
  std::uint64_t id;
  int outputs;
  std::vector<Edge> inputs;
  BackwardFn backward;   // empty for a leaf, and after it ran once
  Tensor gradient_view;  // of a parameter's leaf: where its gradient is summed up (engine/parameters.h)
  bool is_leaf = false;
};

std::shared_ptr<Node> make_leaf(Tensor gradient_view = {});

// Gives `outputs` a history when recording is on and an input wants a gradient; otherwise the lambda is dropped.
// What the lambda captures is what the op keeps alive; captured outputs must be captured before this call.
Tensor record(const char* name, std::initializer_list<Tensor> inputs, const Tensor& output, std::function<std::vector<Tensor>(const Tensor& dy)> backward);
std::vector<Tensor> record_many(const char* name, std::initializer_list<Tensor> inputs, std::vector<Tensor> outputs, BackwardFn backward);
// The same for a list of inputs that is not known when the program is written.
Tensor record(const char* name, std::span<const Tensor> inputs, const Tensor& output, std::function<std::vector<Tensor>(const Tensor& dy)> backward);

bool is_recording();  // in this thread
bool any_wants_grad(std::initializer_list<Tensor> inputs);  // and recording is on
// An op without a backward says so: throws GradientError when recording is on and one of the inputs wants a gradient.
void refuse_gradient(const char* name, std::initializer_list<Tensor> inputs);

// While it lives, ops of this thread record nothing: inference.
class NoGradScope {
 public:
  NoGradScope();
  ~NoGradScope();
  NoGradScope(const NoGradScope&) = delete;
  NoGradScope& operator=(const NoGradScope&) = delete;

 private:
  bool before_;
};

// Where the gradient of a weight goes. For a parameter that is its place in the gradient arena, to which the kernel adds
// (beta 1); for anything else a fresh tensor of the weight's dtype that it overwrites (beta 0). The lambda
// returns done() for that input.
struct GradSlot {
  Tensor tensor;
  float beta = 0;
  Tensor done() const;
};
GradSlot grad_slot(const Tensor& weight);

// Gradients of sum_i <outputs_i, douts_i>. Those of parameters are added to their arena, those of `wrt` (other leaves) are
// returned, zero where the outputs do not depend on one; they may share elements with each other and with `douts`. The
// graph is used up. Throws GradientError when it was before, when an op gives no gradient for an input that wants one or
// the arena's own view instead of GradSlot::done(), ShapeError when a gradient has another shape than its tensor.
std::vector<Tensor> backward(std::span<const Tensor> outputs, std::span<const Tensor> douts, std::span<const Tensor> wrt = {});
// The same for one scalar, from a gradient of `scale`.
std::vector<Tensor> backward(const Tensor& loss, std::span<const Tensor> wrt = {}, double scale = 1.0);

// f(inputs), of which only the inputs are kept: the backward pass runs f again and goes back through it at once.
// f must give the same values each time (random numbers have no state, so dropout does), and reach tensors that want a
// gradient as its inputs or as parameters: backward throws GradientError for any other.
Tensor checkpoint(const char* name, std::span<const Tensor> inputs, std::function<Tensor(std::span<const Tensor>)> f);

}  // namespace mblm
