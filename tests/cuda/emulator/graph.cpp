// Capturing the work of streams into graphs, and launching these.
#include <algorithm>

#include "tests/cuda/emulator/stream.h"

struct CUgraphExec_st {
  std::shared_ptr<const CUgraph_st> graph;
};

namespace emulator {

std::vector<std::shared_ptr<Stream>> streams_in(const Capture& capture);  // stream.cpp

namespace {

// The nodes before `ends` and these, each after those that it depends on. Dependencies that were recorded first come first: the
// stream of the capture runs ahead, and work of other streams runs only when something waits for it.
std::vector<std::size_t> order_of(const CUgraph_st& graph, const std::vector<std::size_t>& ends) {
  std::vector<std::size_t> order;
  std::vector<char> seen(graph.nodes.size());
  struct Visit {
    std::size_t node, next;
  };
  std::vector<Visit> path;
  const auto enter = [&](std::size_t node) {
    if (seen[node]) return;
    seen[node] = true;
    path.push_back({node, 0});
  };
  for (const std::size_t end : ends) {
    enter(end);
    while (!path.empty()) {
      Visit& at = path.back();
      const std::vector<std::size_t>& after = graph.nodes[at.node].after;
      if (at.next < after.size()) {
        enter(after[at.next++]);
      } else {
        order.push_back(at.node);
        path.pop_back();
      }
    }
  }
  return order;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return set_error(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->origin = stream.get();
  stream->last.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const std::lock_guard lock(emulator_mutex());
  *graph = nullptr;
  const std::shared_ptr<Stream> origin = stream_of(handle);
  if (origin == nullptr || origin->capture == nullptr) return set_error(cudaErrorIllegalState);
  const std::shared_ptr<Capture> capture = origin->capture;
  if (capture->origin != origin.get()) return set_error(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return set_error(cudaErrorStreamCaptureWrongThread);
  CUgraph_st& made = capture->graph;
  made.ends = origin->last;
  const std::vector<std::size_t> order = order_of(made, made.ends);
  bool joined = true;
  for (const std::shared_ptr<Stream>& stream : streams_in(*capture)) {
    for (const std::size_t node : stream->last) joined = joined && std::find(order.begin(), order.end(), node) != order.end();
    stream->capture = nullptr;
    stream->last.clear();
  }
  if (!capture->valid) return set_error(cudaErrorStreamCaptureInvalidated);
  if (!joined) return set_error(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st(std::move(made));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr && handle != nullptr) return set_error(cudaErrorInvalidResourceHandle);
  *status = stream == nullptr || stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->valid                        ? cudaStreamCaptureStatusActive
                                                            : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const std::lock_guard lock(emulator_mutex());
  if (graph == nullptr) return set_error(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{std::make_shared<const CUgraph_st>(*graph)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) { return exec == nullptr ? set_error(cudaErrorInvalidValue) : cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const std::lock_guard lock(emulator_mutex());
  if (exec == nullptr) return set_error(cudaErrorInvalidValue);
  if (!is_capturing(stream))
    for (const CUgraph_st::Node& node : exec->graph->nodes) count(node.work);
  add_work(stream, {[graph = exec->graph] {
                      for (const std::size_t node : order_of(*graph, graph->ends)) graph->nodes[node].work.run();
                    },
                    &Counts::graph_launches});
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, std::size_t* count) {
  if (graph == nullptr) return set_error(cudaErrorInvalidValue);
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
