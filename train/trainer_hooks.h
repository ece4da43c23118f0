// What a program can change in a training run: loss, gradients, optimizer, learning rate, log, saved files, end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mblm/model.h"
#include "train/evaluate.h"
#include "train/run_folder.h"
#include "train/schedule.h"

namespace mblm {

// An optimizer step.
struct StepInfo {
  std::int64_t step = 0;        // counted from 1 over the whole run
  std::int64_t micro_step = 0;  // micro-batches done, including those of this step
  double learning_rate = 0;
};

// An optimizer of the program's own, instead of Adam (TrainerHooks::make_optimizer).
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Updates the values from the gradients: flat arenas of one layout (Parameter::offset), float32. The gradient is the mean over the
  // micro-batches and workers of the step, already clipped (train.gradient_clipping), and finite: other steps are skipped. Zeros between
  // parameters must stay zeros. The caller updates the bfloat16 copy of the values.
  virtual void step(Tensor& values, const Tensor& gradients, const StepInfo& info) = 0;
  // What the next step requires besides the values: see TrainerHooks::state.
  virtual std::vector<NamedTensor> state() const { return {}; }
};

// A validation.
struct ValidationReport {
  const Evaluation& evaluation;
  double loss = 0;                   // evaluation.mean_batch_loss()
  double best_loss = 0;              // of all validations of the run with a finite loss, this one included
  std::int64_t validations = 0;      // their number
  std::int64_t since_best = 0;       // validations since the best one: 0 if this is the best
  std::int64_t step = 0, micro_step = 0;  // optimizer steps and micro-batches done
};

// A file that is complete on disk.
struct SavedFile {
  enum class Kind { State, Best, Last };  // full state to resume from; a model among the best; the model at the end
  Kind kind = Kind::State;
  std::filesystem::path path;
  std::int64_t step = 0, micro_step = 0;       // optimizer steps and micro-batches done
  std::optional<double> validation_loss = {};  // Best only
};

// A number of the program's own in the log.
struct Metric {
  std::string name;
  double value = 0;
};

// Each hook is optional; without hooks a run does no additional work. The training thread calls them. An error that a hook throws ends
// the run like any other. With several workers, every worker calls the hooks up to `state`, with the same gradients and values, and must
// compute the same; only the first worker calls those from `metrics` on.
//
// A resumed run has the same bits as an uninterrupted one if each hook is a function of its arguments and of the tensors in `state`. A
// run that was begun with hooks up to `state` or `end_run` can be resumed only by a program that sets the same ones.
//
// On a GPU, work is in order with that of the trainer. Reading values (item, to_vector) waits for the device.
struct TrainerHooks {
  // The loss of training and of validation, which selects the best model: a scalar in the dtype of the logits (Model::prediction_logits),
  // computed by ops. `context.training` distinguishes the two. The trainer divides it by the number of micro-batches of the step.
  LossFunction loss = {};
  // Whether `loss` can be part of a CUDA graph: it calls the same ops at each step and reads no values. The host code then runs only
  // once per shape of input. Otherwise micro-steps run without a graph.
  bool loss_fits_graph = false;

  // Reads or changes the gradients (model.parameters()) before clipping, the test for finite values, and the update. They are the mean
  // over the micro-batches and workers of the step.
  std::function<void(Model& model, const StepInfo& info)> before_update = {};
  // After the update, or after a step that was skipped. Call model.parameters().values_changed() after changing values.
  std::function<void(Model& model, const StepInfo& info)> after_update = {};
  LearningRateFunction learning_rate = {};
  // Called once, before the run begins. train.betas, eps and weight_decay have no effect then. Each step waits for the device.
  std::function<std::unique_ptr<Optimizer>(const Model& model)> make_optimizer = {};
  // Called once, before the run begins: tensors on the model's device that the other hooks update in place. Each state of the run contains
  // them under their names, a resumed run restores them, and the first worker's are copied to the others. Names must differ.
  std::function<std::vector<NamedTensor>(const Model& model)> state = {};

  // Numbers to add to train.log, and to TensorBoard's event file if there is one, with a row of loss.csv for training or validation.
  std::function<std::vector<Metric>(const LossRow& row)> metrics = {};
  // A row that was written to loss.csv: row.kind is `train`, `valid` or `test`. A resumed run repeats the rows after its state.
  std::function<void(const LossRow& row)> on_row = {};
  std::function<void(const SavedFile& file)> on_save = {};
  // After each validation: whether to end the run here, as if it had its full length. The best model is then loaded and tested, and the
  // run counts as finished. Resuming it with a greater length continues it.
  std::function<bool(const ValidationReport& report)> end_run = {};
};

// The names of the hooks that determine what a run computes, as `loss, before_update`; empty without any.
std::string result_hooks(const TrainerHooks& hooks);

}  // namespace mblm
