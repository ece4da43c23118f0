#include "engine/autograd.h"

#include <algorithm>
#include <atomic>
#include <queue>
#include <unordered_map>
#include <utility>

#include "engine/elementwise.h"

namespace mblm {

namespace {

thread_local bool recording = true;

// Enables recording on this thread during its lifetime, also within a backward pass.
class RecordScope {
 public:
  RecordScope() : before_(std::exchange(recording, true)) {}
  ~RecordScope() { recording = before_; }
  RecordScope(const RecordScope&) = delete;
  RecordScope& operator=(const RecordScope&) = delete;

 private:
  bool before_;
};

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// Deletes nodes in a loop instead of recursively, so that releasing a long graph does not overflow the stack: a node that is
// released during the deletion of another node (as its input, or captured by its lambda) waits in a queue.
void delete_node(Node* node) {
  thread_local std::vector<Node*>* waiting = nullptr;
  if (waiting != nullptr) {
    waiting->push_back(node);
    return;
  }
  std::vector<Node*> queue{node};
  waiting = &queue;
  while (!queue.empty()) {
    Node* next = queue.back();
    queue.pop_back();
    delete next;
  }
  waiting = nullptr;
}

std::shared_ptr<Node> make_node(const char* name, std::span<const Tensor> inputs, int outputs, BackwardFn backward) {
  std::shared_ptr<Node> node(new Node{name, next_id(), outputs, {}, std::move(backward), {}, false}, delete_node);
  node->inputs.reserve(inputs.size());
  for (const Tensor& input : inputs) node->inputs.push_back({input.node(), input.output_index(), input.shape(), input.dtype()});
  return node;
}

// GradSlot::done() returns an empty view of this storage for a gradient that is already in the arena.
const std::shared_ptr<Storage>& done_storage() {
  static const auto storage = std::make_shared<Storage>(nullptr, 0, nullptr);
  return storage;
}
Tensor done_marker() { return Tensor(done_storage(), 0, Shape{0}, DType::UInt8); }
bool is_done_marker(const Tensor& x) { return x.same_storage(done_marker()); }

// The backward pass over one graph. The ids of all its nodes but parameters are greater than `oldest`.
class Pass {
 public:
  explicit Pass(std::uint64_t oldest) : oldest_(oldest) {}

  // Requests the gradient of a leaf.
  void want(const Tensor& leaf) {
    require<GradientError>(leaf.node() != nullptr && leaf.node()->is_leaf, "backward: gradients can be requested for leaves only");
    require<GradientError>(!leaf.node()->gradient_view.defined(), "backward: cannot return the gradient of a parameter, which is in the arena");
    wanted_.emplace(leaf.node().get(), Tensor{});
  }

  void add(const Edge& edge, const Tensor& gradient, const char* from) {
    Node* node = edge.node.get();
    require<ShapeError>(gradient.shape() == edge.shape, from, ": expected a gradient of shape ", edge.shape, ", got ", gradient.shape());
    require<DTypeError>(gradient.dtype() == edge.dtype || node->gradient_view.defined(), from, ": expected a gradient of ", edge.dtype, ", got ",
                        gradient.dtype());
    require<GradientError>(node->id > oldest_ || node->gradient_view.defined(), from,
                           ": a checkpointed function used a tensor that requires a gradient and is neither an input nor a parameter");
    if (node->is_leaf) {
      add_to_leaf(node, gradient, from);
      return;
    }
    auto [entry, is_new] = pending_.try_emplace(node);
    if (is_new) {
      entry->second.resize(static_cast<std::size_t>(node->outputs));
      order_.push(edge.node);
    }
    add_to(entry->second[static_cast<std::size_t>(edge.output)], gradient);
  }

  void run() {
    while (!order_.empty()) {
      const std::shared_ptr<Node> node = order_.top();
      order_.pop();
      std::vector<Tensor> dys = std::move(pending_.extract(node.get()).mapped());
      require<GradientError>(node->backward != nullptr, node->name, ": the graph was already consumed by a backward pass");
      const BackwardFn backward = std::exchange(node->backward, nullptr);  // releases its captures at the end of the iteration
      std::vector<Tensor> dxs = backward(dys);
      pass_on(*node, dxs);
    }
  }

  Tensor result(const Tensor& leaf) {
    Tensor gradient = wanted_.at(leaf.node().get());
    return gradient.defined() ? gradient : zeros_like(leaf);
  }

 private:
  struct LaterFirst {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const { return a->id < b->id; }
  };

  void pass_on(Node& node, std::vector<Tensor>& dxs) {
    require<GradientError>(dxs.size() == node.inputs.size(), node.name, ": expected ", node.inputs.size(), " gradients, got ", dxs.size());
    for (std::size_t i = 0; i < dxs.size(); ++i) {
      if (node.inputs[i].node == nullptr) continue;
      require<GradientError>(dxs[i].defined(), node.name, ": no gradient for input ", i);
      if (!is_done_marker(dxs[i])) add(node.inputs[i], std::exchange(dxs[i], Tensor{}), node.name);
    }
    node.inputs.clear();
  }

  void add_to_leaf(Node* node, const Tensor& gradient, const char* from) {
    if (node->gradient_view.defined()) {
      Tensor view = node->gradient_view;
      require<GradientError>(!gradient.same_storage(view), from, ": expected GradSlot::done() for a parameter, got its view of the arena");
      accumulate(view, gradient);
    } else if (const auto found = wanted_.find(node); found != wanted_.end()) {
      add_to(found->second, gradient);
    }
  }

  // Adds the gradients of several users of a tensor. Copies the first gradient if other tensors share its elements.
  static void add_to(Tensor& sum, const Tensor& gradient) {
    if (!sum.defined()) {
      sum = gradient;
      return;
    }
    if (!sum.storage_is_unshared()) sum = clone(sum);
    accumulate(sum, gradient);
  }

  const std::uint64_t oldest_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, LaterFirst> order_;
  std::unordered_map<Node*, std::vector<Tensor>> pending_;
  std::unordered_map<Node*, Tensor> wanted_;
};

std::vector<Tensor> backward_to(std::uint64_t oldest, std::span<const Tensor> outputs, std::span<const Tensor> douts, std::span<const Tensor> wrt) {
  require<GradientError>(outputs.size() == douts.size(), "backward: expected ", outputs.size(), " gradients of outputs, got ", douts.size());
  const NoGradScope no_grad;
  Pass pass(oldest);
  for (const Tensor& leaf : wrt) pass.want(leaf);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    require<GradientError>(outputs[i].defined() && douts[i].defined(), "backward: expected output ", i, " and its gradient, got an undefined tensor");
    require<ShapeError>(outputs[i].shape() == douts[i].shape(), "backward: expected a gradient of shape ", outputs[i].shape(), ", got ", douts[i].shape());
    if (outputs[i].node() != nullptr) pass.add({outputs[i].node(), outputs[i].output_index(), outputs[i].shape(), outputs[i].dtype()}, douts[i], "backward");
  }
  pass.run();
  std::vector<Tensor> gradients;
  for (const Tensor& leaf : wrt) gradients.push_back(pass.result(leaf));
  return gradients;
}

}  // namespace

std::shared_ptr<Node> make_leaf(Tensor gradient_view) {
  return std::shared_ptr<Node>(new Node{"leaf", next_id(), 1, {}, nullptr, std::move(gradient_view), true}, delete_node);
}

std::vector<Tensor> detail::with_history(const char* name, std::span<const Tensor> inputs, std::vector<Tensor> outputs, BackwardFn backward) {
  const std::shared_ptr<Node> node = make_node(name, inputs, static_cast<int>(outputs.size()), std::move(backward));
  for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].set_history(node, static_cast<int>(i));
  return outputs;
}

bool is_recording() { return recording; }

bool any_wants_grad(std::span<const Tensor> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.wants_grad(); });
}
bool any_wants_grad(std::initializer_list<Input> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.wants_grad(); });
}

void refuse_gradient(const char* name, std::initializer_list<Input> inputs) {
  require<GradientError>(!any_wants_grad(inputs), name, ": has no gradient, but an input requires one");
}

NoGradScope::NoGradScope() : before_(std::exchange(recording, false)) {}
NoGradScope::~NoGradScope() { recording = before_; }

Tensor GradSlot::done() const { return beta == 0 ? tensor : done_marker(); }

GradSlot grad_slot(const Tensor& weight) {
  if (weight.node() != nullptr && weight.node()->gradient_view.defined()) return {weight.node()->gradient_view, 1.0f};
  return {empty_like(weight), 0.0f};
}

std::vector<Tensor> backward(std::span<const Tensor> outputs, std::span<const Tensor> douts, std::span<const Tensor> wrt) {
  return backward_to(0, outputs, douts, wrt);
}

std::vector<Tensor> backward(const Tensor& loss, std::span<const Tensor> wrt, double scale) {
  require<ShapeError>(loss.numel() == 1, "backward: expected a scalar, got shape ", loss.shape());
  require<GradientError>(loss.wants_grad(), "backward: the loss does not depend on a tensor that requires a gradient");
  Tensor dloss = empty_like(loss);
  fill(dloss, scale);
  return backward(std::span(&loss, 1), std::span(&dloss, 1), wrt);
}

Tensor checkpoint(const char* name, std::span<const Tensor> inputs, std::function<Tensor(std::span<const Tensor>)> f) {
  if (!is_recording()) return f(inputs);
  std::vector<Tensor> kept;
  for (const Tensor& x : inputs) kept.push_back(x.detach());
  Tensor y;
  {
    const NoGradScope no_grad;
    y = f(kept).detach();
  }
  // The nested pass reaches the parameters that f uses, so the node is needed even when no input requires a gradient: an
  // extra leaf without elements makes record() create it.
  std::vector<Tensor> edges(inputs.begin(), inputs.end());
  edges.push_back(done_marker());
  edges.back().set_history(make_leaf(), 0);
  std::vector<bool> wants;
  for (const Tensor& x : inputs) wants.push_back(x.wants_grad());
  return record(name, std::span<const Tensor>(edges), y, [kept, wants, f = std::move(f)](const Tensor& dy) {
    const RecordScope record_again;
    const std::uint64_t oldest = next_id();
    std::vector<Tensor> again = kept, leaves;
    for (std::size_t i = 0; i < again.size(); ++i) {
      if (!wants[i]) continue;
      again[i] = again[i].as_leaf();
      leaves.push_back(again[i]);
    }
    const Tensor y_again = f(again);
    const std::vector<Tensor> gradients = backward_to(oldest, std::span(&y_again, 1), std::span(&dy, 1), leaves);
    std::vector<Tensor> dxs;
    for (auto next = gradients.begin(); const bool asked : wants) dxs.push_back(asked ? *next++ : Tensor{});
    dxs.push_back(done_marker());
    return dxs;
  });
}

}  // namespace mblm
