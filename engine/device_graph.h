// Work of a device that is captured once and replayed with one call, so that the host does not submit each kernel again.
#pragma once

#include <functional>
#include <memory>

#include "engine/device.h"
#include "engine/pool.h"

namespace mblm {

class DeviceGraph {
 public:
  // Captures the work that `work` submits on this thread, without running it. Tensors that it creates come from `pool`, which must keep
  // all blocks (MemoryPool::Keep::All) and which this object keeps alive. A replay uses the same memory again, including blocks that
  // `work` released: so memory of the pool may be used by graphs only, and results that outlive the next replay of any of them must be
  // copied. Throws what `work` throws, and DeviceError if the work cannot be captured: then nothing has run.
  DeviceGraph(std::shared_ptr<MemoryPool> pool, const std::function<void()>& work);
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  void launch() const;  // submits the work to the compute stream

 private:
  const std::shared_ptr<MemoryPool> pool_;
  Graph graph_ = 0;
};

}  // namespace mblm
