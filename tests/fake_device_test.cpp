// Training on a device that host code cannot access: the same results as on the CPU, and no reads but the step scalars.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "mblm/mblm.h"
#include "tests/fake_device.h"
#include "tests/temporary_folder.h"
#include "tests/training_rows.h"

namespace mblm::testing {
namespace {

const char* const models[] = {
    "{num_tokens: 50, pad_token_id: 49, hidden_dims: [16, 12], seq_lens: [8, 4], num_layers: [2, 1], train_checkpoint_chunks: [2], block: [{block_type: "
    "mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, dropout: 0.1, pos_emb_type: rope}, {attn_head_dims: 4, attn_num_heads: 2, attn_use_rot_embs: "
    "true, attn_dropout: 0.1, ff_dropout: 0.1, pos_emb_type: fixed}]}",
    "{num_tokens: 50, pad_token_id: 49, hidden_dims: [16], seq_lens: [32], num_layers: [2], train_checkpoint_chunks: null, block: {block_type: mamba1, "
    "d_state: 4, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}}",
    "{mask_token_id: 48, mblm_config: {num_tokens: 50, pad_token_id: 49, hidden_dims: [16, 12], seq_lens: [8, 4], num_layers: [1, 1], "
    "train_checkpoint_chunks: null, block: {block_type: transformerEncoder, attn_head_dims: 4, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: "
    "fixed}}}"};

struct Numbers {
  std::vector<double> losses;  // of the optimizer steps
  std::vector<float> values;
};

// Runs two optimizer steps of two micro-batches as warm-up, then two steps whose runtime calls are checked.
Numbers train(const char* yaml, Device device) {
  Model model(parse_model_config(yaml, "test", BlockRegistry()));
  model.allocate(device);
  model.initialize(5);
  StepRunner runner(model, 2, {.gradient = {.clip = 0.5, .stop_after_nonfinite = true}});
  const TrainingRows rows(64, model.config().is_masked());
  Numbers numbers;
  for (std::int64_t step = 0; step < 4; ++step) {
    if (step == 2) runtime_calls() = {};
    for (std::int64_t k = 0; k < 2; ++k)
      runner.micro_step(read_batch(rows, {0, (step * 2 + k) * 4, 4}, model.config()).input, {.training = true, .seed = 9});
    runner.optimizer_step(1e-2);
    for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::Leave)) numbers.losses.push_back(outcome.loss);
  }
  if (device.kind == DeviceKind::Cuda) {
    CHECK(runtime_calls().to_host.empty());
    CHECK(runtime_calls().to_host_async == std::vector<std::size_t>(2, sizeof(StepScalars)));
    CHECK(runtime_calls().allocations == 0);
    CHECK(runtime_calls().synchronizations == 0);
  }
  for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::WaitFor)) numbers.losses.push_back(outcome.loss);
  numbers.values = model.parameters().values().to_vector<float>();
  return numbers;
}

RunConfig config_for(const std::filesystem::path& folder, std::int64_t logged) {
  RunConfig config;
  config.model = parse_model_config(models[0], "test", BlockRegistry());
  config.model.num_tokens = 256;
  config.model.pad_token_id = 0;
  config.input_seq_len = 32;
  config.train.target_elements = 160;  // 40 micro-batches, 20 steps
  config.train.batch_size = 4;
  config.train.gradient_accumulate_every = 2;
  config.train.precision = "float32";
  config.io.name_model = "m";
  config.io.output_dir = (folder / "runs").string();
  config.io.dataset_id = "files";
  config.io.dataset_dir = (folder / "text").string();
  config.io.log_train_loss_amount = logged;
  config.io.validate_amount = 0;  // a validation reads its losses
  return config;
}

}  // namespace

TEST_CASE("a training step reads back only an asynchronous copy of the step scalars") {
  for (const char* yaml : models) {
    CAPTURE(yaml);
    const Numbers device = train(yaml, fake_device), cpu = train(yaml, {});
    CHECK(device.losses.size() == 4);
    CHECK(device.losses == cpu.losses);
    CHECK(device.values == cpu.values);
  }
}

TEST_CASE("a run reads other values only to log them") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "word " + std::to_string(i * i) + " ";
  folder.write("text/train/a", text);
  folder.write("text/validation/a", text);
  // Hooks that read nothing change none of this.
  TrainerHooks hooks;
  hooks.loss = [](const Model& model, const ModelInput& input, const ForwardContext& context) { return model.loss(input, context).loss; };
  hooks.before_update = [](Model& model, const StepInfo&) {
    Tensor gradients = model.parameters().gradients();
    convert(scale(gradients, 0.5), gradients);
  };
  hooks.after_update = [](Model& model, const StepInfo&) { model.parameters().values_changed(); };
  hooks.learning_rate = [](std::int64_t, std::int64_t, double configured) { return 0.5 * configured; };
  hooks.on_row = [](const LossRow&) {};
  for (const auto& [logged, with_hooks] : {std::pair<std::int64_t, bool>{0, false}, {3, false}, {3, true}}) {
    TrainerOptions options{.device = fake_device};
    if (with_hooks) options.hooks = hooks;
    std::size_t numbers_read = 0;
    RunConfig config = config_for(folder.path(), logged);
    config.io.run_id = concat_text(logged, with_hooks ? "_hooks" : "");
    Trainer trainer(config, DatasetRegistry(), options);
    runtime_calls() = {};
    const TrainingResult result = trainer.run();
    CHECK(result.state.steps == 20);
    CHECK(runtime_calls().to_host_async == std::vector<std::size_t>(20, sizeof(StepScalars)));
    // The first 30 micro-steps are timed for timemem.csv, which waits for the loss and for a gradient. A logged row reads its
    // loss. Larger copies are the gradient means of logged rows, and the state at the end.
    for (const std::size_t bytes : runtime_calls().to_host) numbers_read += bytes <= 8;
    CHECK(numbers_read == 60 + static_cast<std::size_t>(logged));
  }
}

TEST_CASE("host code cannot access tensors of the device") {
  Tensor x = zeros(Shape{3}, DType::Float32, fake_device);
  CHECK_THROWS_WITH_AS(x.host_data<float>(), "tensor: expected elements on the CPU, got elements on cuda:0", DeviceError);
  CHECK_THROWS_AS(x.host_bytes(), DeviceError);
  CHECK(x.to_vector<float>() == std::vector<float>(3, 0.0f));
}

TEST_CASE("a tensor on another device in a struct argument is detected") {
  const Tensor qkv = zeros(Shape{1, 4, 6}, DType::Float32, fake_device);
  AttentionOptions options;
  options.key_mask = from_values<std::uint8_t>(Shape{1, 4}, std::vector<std::uint8_t>{1, 1, 1, 0});
  CHECK_THROWS_WITH_AS(attention(qkv, options), "attention_forward: expected all tensors on one device, got cuda:0 and cpu", DeviceError);
  const Tensor x = zeros(Shape{1, 2, 3}, DType::Float32), dt = zeros(Shape{1, 2, 3}, DType::Float32, fake_device), a = zeros(Shape{3, 2}, DType::Float32);
  const Tensor b = zeros(Shape{1, 2, 2}, DType::Float32), d = zeros(Shape{3}, DType::Float32);
  CHECK_THROWS_AS(selective_scan(x, dt, a, b, b, d), DeviceError);
}

}  // namespace mblm::testing

int main(int count, char** arguments) {
  mblm::testing::add_fake_device();
  return doctest::Context(count, arguments).run();
}
