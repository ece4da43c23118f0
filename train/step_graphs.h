// Captures the micro-steps and the update of a training run as graphs of the device.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "engine/device_graph.h"
#include "engine/pool.h"
#include "mblm/model_input.h"
#include "train/input_staging.h"

namespace mblm {

// The first micro-step of each shape of input runs as usual, so that kernels and libraries initialize themselves; the second one is
// captured, and the later ones replay it. A graph needs inputs at fixed addresses and memory that nothing else uses: both are held here.
// Work that reads values on the host cannot be captured, and host code within a micro-step (of a custom block) runs only at the capture.
class StepGraphs {
 public:
  // `staging` must outlive this object.
  StepGraphs(Device device, InputStaging& staging);
  // Whether the backend of the device captures graphs.
  static bool are_supported(Device device);

  // Computes the loss of a micro-step. `key` describes everything on the host that `work` depends on; `work` gets the input on the device.
  using MicroStep = std::function<Tensor(const ModelInput& input)>;
  Tensor run_micro_step(const std::string& key, const ModelInput& input, const MicroStep& work);
  // Runs the update, always the same work.
  void run_update(const std::function<void()>& work);

  // Why work runs without a graph; empty if there is no reason, and after the call.
  std::string take_note();

 private:
  struct Captured {
    std::int64_t runs = 0;  // without a graph
    ModelInput input;
    Tensor loss;
    std::unique_ptr<DeviceGraph> graph;
  };
  bool capture(const char* what, std::unique_ptr<DeviceGraph>& graph, const std::function<void()>& work);

  static constexpr std::size_t most_graphs = 8;  // more shapes of inputs would hold much memory for little use
  static constexpr std::size_t most_keys = 64;   // with more, shapes hardly repeat

  const Device device_;
  InputStaging& staging_;
  std::shared_ptr<MemoryPool> pool_;  // of all graphs, which run one after another
  std::map<std::string, Captured> micro_steps_;
  std::size_t graphs_ = 0;
  Captured update_;
  bool micro_steps_fail_ = false, update_fails_ = false;
  std::string note_;
};

}  // namespace mblm
