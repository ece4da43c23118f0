#include "engine/device_graph.h"

#include "engine/error.h"

namespace mblm {

DeviceGraph::DeviceGraph(std::shared_ptr<MemoryPool> pool, const std::function<void()>& work) : pool_(std::move(pool)) {
  const Device device = pool_->device();
  Runtime& runtime = runtime_of(device.kind);
  runtime.begin_capture(device.index);
  try {
    const PoolScope scope(pool_);
    work();
  } catch (...) {
    runtime.abandon_capture(device.index);
    throw;
  }
  graph_ = runtime.end_capture(device.index);
}

// Waits for the device: a replay may still use the graph and its memory.
DeviceGraph::~DeviceGraph() {
  Runtime& runtime = runtime_of(pool_->device().kind);
  try {
    runtime.synchronize(pool_->device().index);
  } catch (const Error&) {  // reported by the next call that uses the device
  }
  runtime.release_graph(pool_->device().index, graph_);
}

void DeviceGraph::launch() const { runtime_of(pool_->device().kind).launch_graph(pool_->device().index, graph_); }

}  // namespace mblm
