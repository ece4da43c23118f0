// Changes a training run by hooks: a loss that weights digits, a frozen table, a moving average of the weights, and an early end.
#include <cmath>
#include <fstream>
#include <iostream>

#include "mblm/mblm.h"

namespace {

using namespace mblm;

// The cross-entropy with weight 3 for digits and 1 for all other bytes. It consists of ops and reads no values, so that it also works as
// a part of a CUDA graph.
class DigitLoss {
 public:
  explicit DigitLoss(Device device) {
    std::vector<float> weights(257, 1);
    std::fill_n(weights.begin() + '0', 10, 3.0f);
    weights_ = from_values<float>(Shape{257, 1}, weights, device);
  }
  Tensor operator()(const Model& model, const ModelInput& input, const ForwardContext& context) const {
    const Tensor weight = embedding(input.targets, weights_).reshape(input.targets.shape());
    return cross_entropy(model.prediction_logits(input, context), input.targets, model.ignored_target(), weight).loss;
  }

 private:
  Tensor weights_;  // (257, 1) by id
};

// A moving average of the parameters. It is part of the run's states, so that a resumed run continues it.
class Average {
 public:
  std::vector<NamedTensor> begin(const Model& model) {
    values_ = clone(model.parameters().values());
    return {{"average", values_}};
  }
  void follow(const Model& model) { convert(add(scale(values_, 0.9), scale(model.parameters().values(), 0.1)), values_); }
  void apply_to(Model& model) const {
    Tensor values = model.parameters().values();
    convert(values_, values);
    model.parameters().values_changed();
  }

 private:
  Tensor values_;
};

RunConfig config_for(const std::string& folder) {
  std::ofstream text(folder + "/counting.txt");
  for (int i = 0, n = 0; i < 3000; ++i, n = (n + 619) % 1000) text << n << " is followed by " << n + 1 << ".\n";

  const auto block = std::make_shared<TransformerConfig>();
  block->attn_head_dims = 16;
  block->attn_num_heads = 2;
  block->attn_use_rot_embs = true;

  RunConfig config;
  config.model = {.num_tokens = 257,
                  .pad_token_id = 256,
                  .hidden_dims = {32, 32},
                  .seq_lens = {16, 4},
                  .num_layers = {1, 1},
                  .train_checkpoint_chunks = {},
                  .blocks = {block, block}};
  config.input_seq_len = 64;
  config.train.max_steps = 300;
  config.train.batch_size = 8;
  config.train.learning_rate = 0.01;
  config.train.gradient_accumulate_every = 1;
  config.io.dataset_id = "files";
  config.io.dataset_dir = folder + "/counting.txt";
  config.io.name_model = "counting";
  config.io.output_dir = folder + "/runs";
  config.io.num_models_to_save = 1;
  config.io.validate_amount = 16;
  config.io.log_train_loss_amount = 30;
  return config;
}

}  // namespace

int main(int count, char** arguments) {
  const Device device = open_device(count > 2 ? arguments[2] : "cpu");
  Average average;
  double stage0_norm = 0;
  TrainerOptions options{.device = device};
  TrainerHooks& hooks = options.hooks;

  hooks.loss = DigitLoss(device);
  hooks.loss_fits_graph = true;
  hooks.before_update = [&](Model& model, const StepInfo& info) {
    double square = 0;
    for (const NamedTensor& gradient : model.parameters().named_gradients()) {
      Tensor values = gradient.tensor;
      if (gradient.name.starts_with("token_embs") && info.step > 100) fill(values, 0);  // the embeddings are trained for 100 steps
      if (info.step % 10 != 0 || !gradient.name.starts_with("stage_models.0.")) continue;
      for (const float x : values.to_vector<float>()) square += double{x} * double{x};  // waits for the device
    }
    if (info.step % 10 == 0) stage0_norm = std::sqrt(square);
  };
  hooks.state = [&](const Model& model) { return average.begin(model); };
  hooks.after_update = [&](Model& model, const StepInfo&) { average.follow(model); };
  hooks.metrics = [&](const LossRow&) { return std::vector<Metric>{{"stage0_norm", stage0_norm}}; };
  hooks.on_row = [](const LossRow& row) {
    if (row.kind != "train") std::cout << row.kind << " loss " << row.loss << '\n';
  };
  hooks.on_save = [](const SavedFile& file) { std::cout << "step " << file.step << ": saved " << file.path.filename().string() << '\n'; };
  hooks.end_run = [](const ValidationReport& report) { return report.since_best >= 3; };

  Trainer trainer(config_for(count > 1 ? arguments[1] : "."), DatasetRegistry(), options);
  const TrainingResult result = trainer.run();
  std::cout << (result.ended_early ? "ended early" : "trained") << " after " << result.state.steps << " steps, validation loss "
            << *result.validation_loss << '\n';

  average.apply_to(trainer.model());
  save_model(trainer.model(), result.folder / "checkpoints/average.safetensors");
}
