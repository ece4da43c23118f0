// cuDNN's backend API, opened at run time: operation graphs, and the plans that execute them.
#pragma once

#include <cudnn.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cuda/library.h"

namespace mblm::cuda {

struct Cudnn {
  Library library{"cuDNN", {"libcudnn.so.9"}};
  decltype(&cudnnGetVersion) version = library.function("cudnnGetVersion");
  decltype(&cudnnGetErrorString) status_text = library.function("cudnnGetErrorString");
  decltype(&cudnnCreate) create = library.function("cudnnCreate");
  decltype(&cudnnSetStream) set_stream = library.function("cudnnSetStream");
  decltype(&cudnnBackendCreateDescriptor) create_descriptor = library.function("cudnnBackendCreateDescriptor");
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor = library.function("cudnnBackendDestroyDescriptor");
  decltype(&cudnnBackendSetAttribute) set_attribute = library.function("cudnnBackendSetAttribute");
  decltype(&cudnnBackendGetAttribute) get_attribute = library.function("cudnnBackendGetAttribute");
  decltype(&cudnnBackendFinalize) finalize = library.function("cudnnBackendFinalize");
  decltype(&cudnnBackendExecute) execute = library.function("cudnnBackendExecute");
};
// Throws DeviceError if the library is missing.
const Cudnn& cudnn();

// Throws DeviceError with the text of a status that is not success.
void check(cudnnStatus_t status, const char* what);

// One object of the backend API.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);

  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values);
  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set(name, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  void finalize();

 private:
  struct Destroy {
    void operator()(void* descriptor) const { cudnn().destroy_descriptor(descriptor); }
  };
  std::unique_ptr<void, Destroy> descriptor_;
};

// A tensor of a graph.
struct CudnnTensor {
  std::int64_t index = -1;  // -1: none
  explicit operator bool() const { return index >= 0; }
};

// A graph of operations on tensors of rank 4, for one plan. Arithmetic is float32 unless noted.
class CudnnGraph {
 public:
  using Sizes = std::array<std::int64_t, 4>;
  using Id = CudnnTensor;

  Id in_memory(cudnnDataType_t type, const Sizes& sizes, const Sizes& strides);     // its address is given at execution
  Id scalar();                                                                      // float32, whose host address is given at execution
  Id value(const Sizes& sizes, cudnnDataType_t type = CUDNN_DATA_FLOAT);            // exists only inside the graph
  Id view(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type);          // the same with strides

  // y = mode(x, b), or selector ? x : b for BINARY_SELECT.
  void pointwise(cudnnPointwiseMode_t mode, Id y, Id x, Id b = {}, Id selector = {}, cudnnDataType_t arithmetic = CUDNN_DATA_FLOAT);
  void index(Id y, Id like, std::int64_t axis);  // y = the element's index along the axis
  void matmul(Id c, Id a, Id b);
  void reduce(cudnnReduceTensorOp_t operation, Id y, Id x);
  void reshape(Id y, Id x);  // y views x with other sizes and strides

  // Selects the first of cuDNN's proposals that the handle's device supports. Throws DeviceError if there is none.
  void plan(cudnnHandle_t handle);
  // Number of proposals for a device that is described by a CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR and need not be present (cuDNN 9.11).
  std::int64_t count_proposals(const CudnnDescriptor& device);
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  // Starts the plan on the handle's stream. `addresses` names every tensor in memory and every scalar.
  void execute(cudnnHandle_t handle, const std::vector<std::pair<Id, const void*>>& addresses, void* workspace) const;

 private:
  Id add_tensor(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type, bool in_memory, bool by_value);
  void add_pointwise(CudnnDescriptor description, Id y, Id x, Id b, Id selector);
  void add_operation(CudnnDescriptor operation);
  void finalize_graph(const cudnnHandle_t* handle);

  std::vector<CudnnDescriptor> tensors_, descriptions_, operations_;
  std::optional<CudnnDescriptor> graph_, plan_;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace mblm::cuda
