#include "cuda/cudnn_graph.h"

#include "engine/error.h"

namespace mblm::cuda {
namespace {

constexpr std::int64_t tensor_alignment = 16;  // bytes

CudnnGraph::Sizes packed(const CudnnGraph::Sizes& sizes) {
  return {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1};
}

// Not finalized. Mode A is the one that knows attention.
CudnnDescriptor heuristics_of(const CudnnDescriptor& graph) {
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  return heuristics;
}

// Returns the number of proposals that were read, or that there are if `capacity` is 0.
std::int64_t read_proposals(const CudnnDescriptor& heuristics, std::int64_t capacity, cudnnBackendDescriptor_t* into) {
  std::int64_t count = 0;
  check(cudnn().get_attribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, capacity, &count, into),
        "cannot read the proposals");
  return count;
}

// cuDNN's choices of an engine and its settings that the device supports, best first.
std::vector<CudnnDescriptor> proposals_of(const CudnnDescriptor& graph) {
  CudnnDescriptor heuristics = heuristics_of(graph);
  heuristics.finalize();
  std::vector<CudnnDescriptor> proposals;
  std::vector<cudnnBackendDescriptor_t> addresses;
  for (std::int64_t i = read_proposals(heuristics, 0, nullptr); i > 0; --i)
    addresses.push_back(proposals.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  if (proposals.empty()) return proposals;
  const std::int64_t supported = read_proposals(heuristics, static_cast<std::int64_t>(proposals.size()), addresses.data());
  proposals.erase(proposals.begin() + supported, proposals.end());
  return proposals;
}

}  // namespace

const Cudnn& cudnn() {
  static const Cudnn* const only = new Cudnn;  // never destroyed; a failed construction is tried again
  return *only;
}

void check(cudnnStatus_t status, const char* what) {
  require<DeviceError>(status == CUDNN_STATUS_SUCCESS, "cuDNN: ", what, ": ", cudnn().status_text(status));
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t created = nullptr;
  check(cudnn().create_descriptor(type, &created), "cannot create a descriptor");
  descriptor_.reset(created);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  check(cudnn().set_attribute(get(), name, type, count, values), "cannot set an attribute");
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t descriptor = value.get();
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &descriptor);
}

void CudnnDescriptor::finalize() { check(cudnn().finalize(get()), "unsupported"); }

CudnnGraph::Id CudnnGraph::add_tensor(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type, bool in_memory, bool by_value) {
  const Id id{static_cast<std::int64_t>(tensors_.size())};
  CudnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, static_cast<std::int64_t>(sizes.size()), sizes.data());
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, static_cast<std::int64_t>(strides.size()), strides.data());
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id.index);
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, tensor_alignment);
  tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, !in_memory);
  tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, by_value);
  tensor.finalize();
  tensors_.push_back(std::move(tensor));
  return id;
}

CudnnGraph::Id CudnnGraph::in_memory(cudnnDataType_t type, const Sizes& sizes, const Sizes& strides) {
  return add_tensor(sizes, strides, type, true, false);
}
CudnnGraph::Id CudnnGraph::scalar() { return add_tensor({1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT, true, true); }
CudnnGraph::Id CudnnGraph::value(const Sizes& sizes, cudnnDataType_t type) { return add_tensor(sizes, packed(sizes), type, false, false); }
CudnnGraph::Id CudnnGraph::view(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type) {
  return add_tensor(sizes, strides, type, false, false);
}

void CudnnGraph::add_operation(CudnnDescriptor operation) {
  operation.finalize();
  operations_.push_back(std::move(operation));
}

void CudnnGraph::add_pointwise(CudnnDescriptor description, Id y, Id x, Id b, Id selector) {
  description.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, description);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_[static_cast<std::size_t>(x.index)]);
  if (b) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_[static_cast<std::size_t>(b.index)]);
  if (selector) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensors_[static_cast<std::size_t>(selector.index)]);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_[static_cast<std::size_t>(y.index)]);
  descriptions_.push_back(std::move(description));
  add_operation(std::move(operation));
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, Id y, Id x, Id b, Id selector, cudnnDataType_t arithmetic) {
  CudnnDescriptor description(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  description.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  description.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, arithmetic);
  add_pointwise(std::move(description), y, x, b, selector);
}

void CudnnGraph::index(Id y, Id like, std::int64_t axis) {
  CudnnDescriptor description(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  description.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_GEN_INDEX);
  description.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  description.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  add_pointwise(std::move(description), y, like, {}, {});
}

void CudnnGraph::matmul(Id c, Id a, Id b) {
  CudnnDescriptor description(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  description.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  description.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors_[static_cast<std::size_t>(a.index)]);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors_[static_cast<std::size_t>(b.index)]);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors_[static_cast<std::size_t>(c.index)]);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, description);
  descriptions_.push_back(std::move(description));
  add_operation(std::move(operation));
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t reduction, Id y, Id x) {
  CudnnDescriptor description(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  description.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, reduction);
  description.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  description.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, description);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors_[static_cast<std::size_t>(x.index)]);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors_[static_cast<std::size_t>(y.index)]);
  descriptions_.push_back(std::move(description));
  add_operation(std::move(operation));
}

void CudnnGraph::reshape(Id y, Id x) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, tensors_[static_cast<std::size_t>(x.index)]);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, tensors_[static_cast<std::size_t>(y.index)]);
  add_operation(std::move(operation));
}

void CudnnGraph::finalize_graph(const cudnnHandle_t* handle) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& operation : operations_) operations.push_back(operation.get());
  graph_.emplace(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  if (handle != nullptr) graph_->set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, *handle);
  graph_->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(operations.size()), operations.data());
  graph_->finalize();
}

std::int64_t CudnnGraph::count_proposals(const CudnnDescriptor& device) {
  finalize_graph(nullptr);
  CudnnDescriptor heuristics = heuristics_of(*graph_);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristics.finalize();
  return read_proposals(heuristics, 0, nullptr);
}

void CudnnGraph::plan(cudnnHandle_t handle) {
  finalize_graph(&handle);
  for (const CudnnDescriptor& proposal : proposals_of(*graph_)) {
    CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, proposal);
    if (cudnn().finalize(plan.get()) != CUDNN_STATUS_SUCCESS) continue;
    std::int64_t written = 0;
    check(cudnn().get_attribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &written, &workspace_bytes_),
          "cannot read the size of the workspace");
    plan_ = std::move(plan);
    return;
  }
  throw DeviceError("cuDNN: no engine supports the graph");
}

void CudnnGraph::execute(cudnnHandle_t handle, const std::vector<std::pair<Id, const void*>>& addresses, void* workspace) const {
  std::vector<std::int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [id, address] : addresses) {
    ids.push_back(id.index);
    pointers.push_back(const_cast<void*>(address));
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(pointers.size()), pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, static_cast<std::int64_t>(ids.size()), ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize();
  check(cudnn().execute(handle, plan_->get(), pack.get()), "cannot execute the plan");
}

}  // namespace mblm::cuda
