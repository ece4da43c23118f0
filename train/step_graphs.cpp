#include "train/step_graphs.h"

#include <utility>

#include "engine/error.h"

namespace mblm {

StepGraphs::StepGraphs(Device device, InputStaging& staging)
    : device_(device), staging_(staging), pool_(std::make_shared<MemoryPool>(device, MemoryPool::Keep::All)) {}

bool StepGraphs::are_supported(Device device) { return runtime_of(device.kind).can_capture(); }

// Gives the memory of earlier runs without a graph back to the device, because a graph needs memory of its own.
bool StepGraphs::capture(const char* what, std::unique_ptr<DeviceGraph>& graph, const std::function<void()>& work) {
  release_cached_of(device_);
  try {
    graph = std::make_unique<DeviceGraph>(pool_, work);
    return true;
  } catch (const Error& error) {
    note_ = concat_text("the ", what, " runs without a CUDA graph: ", error.what());
    return false;
  }
}

Tensor StepGraphs::run_micro_step(const std::string& key, const ModelInput& input, const MicroStep& work) {
  if (micro_steps_fail_) return work(staging_.to_device(input));
  if (micro_steps_.size() == most_keys && micro_steps_.count(key) == 0) return work(staging_.to_device(input));
  Captured& step = micro_steps_[key];
  if (step.graph == nullptr) {
    if (step.runs++ == 0) return work(staging_.to_device(input));
    if (graphs_ == most_graphs) {
      if (step.runs == 2) note_ = concat_text("micro-steps with inputs of further shapes run without a CUDA graph: there are ", most_graphs, " graphs");
      return work(staging_.to_device(input));
    }
    step.input = staging_.empty_like(input);
    if (!capture("micro-step", step.graph, [&] { step.loss = work(step.input); })) {
      micro_steps_fail_ = true;
      micro_steps_.clear();
      pool_->release_cached();
      return work(staging_.to_device(input));
    }
    ++graphs_;
  }
  staging_.to_device(input, step.input);
  step.graph->launch();
  return clone(step.loss);  // the next replay overwrites it
}

void StepGraphs::run_update(const std::function<void()>& work) {
  if (update_.graph == nullptr) {
    if (update_fails_ || update_.runs++ == 0) return work();
    if (!capture("update", update_.graph, work)) {
      update_fails_ = true;
      return work();
    }
  }
  update_.graph->launch();
}

std::string StepGraphs::take_note() { return std::exchange(note_, {}); }

}  // namespace mblm
