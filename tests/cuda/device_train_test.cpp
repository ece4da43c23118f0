// Training on the emulated CUDA device: what a step may not do, graphs against runs without them, several workers.
#include <doctest/doctest.h>

#include "engine/pool.h"
#include "mblm/mblm.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/cuda/test_device.h"
#include "tests/temporary_folder.h"
#include "tests/thread_workers.h"
#include "tests/training_rows.h"
#include "train/input_staging.h"
#include "train/step_graphs.h"

namespace mblm::testing {
namespace {

const char* const transformer_blocks =
    "{num_tokens: 50, pad_token_id: 49, hidden_dims: [16, 16], seq_lens: [8, 4], num_layers: [2, 1], train_checkpoint_chunks: [2], block: "
    "{attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, attn_dropout: 0.1, ff_dropout: 0.1, pos_emb_type: fixed}}";
const char* const mamba_blocks =
    "{num_tokens: 50, pad_token_id: 49, hidden_dims: [16, 16], seq_lens: [8, 4], num_layers: [1, 1], train_checkpoint_chunks: null, block: [{block_type: "
    "mamba2, d_state: 16, d_conv: 4, expand: 2, headdim: 16, dropout: 0.1, pos_emb_type: rope}, {block_type: mamba1, d_state: 4, d_conv: 4, expand: 2, "
    "headdim: 8, pos_emb_type: null}]}";
const char* const masked_blocks =
    "{mask_token_id: 48, mblm_config: {num_tokens: 50, pad_token_id: 49, hidden_dims: [16, 16], seq_lens: [8, 4], num_layers: [1, 1], "
    "train_checkpoint_chunks: null, block: {block_type: transformerEncoder, attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: "
    "fixed}}}";

Device device() { return test_device(); }

struct Numbers {
  std::vector<double> losses;  // of the optimizer steps
  std::vector<float> values;
};

constexpr std::int64_t steps = 8, warm_up = 4;

// Steps of two micro-batches. Odd steps have batches of another size, and each step is followed by an evaluation.
Numbers train(const char* yaml, Device device, DType precision, bool graphs) {
  Model model(parse_model_config(yaml, "test", BlockRegistry()));
  model.allocate(device, precision);
  model.initialize(5);
  StepRunner runner(model, 2, {.gradient = {.clip = 0.5, .stop_after_nonfinite = true}}, graphs);
  const TrainingRows rows(128, model.config().is_masked());
  Numbers numbers;
  emulator::Counts calls;
  for (std::int64_t step = 0; step < steps; ++step) {
    emulator::counts() = {};
    for (std::int64_t k = 0; k < 2; ++k) {
      const Tensor loss =
          runner.micro_step(read_batch(rows, {0, (step * 2 + k) * 4, 4 - step % 2}, model.config()).input, {.training = true, .seed = 9});
      CHECK(loss.device() == device);
    }
    runner.optimizer_step(1e-2);
    for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::Leave)) numbers.losses.push_back(outcome.loss);
    calls = emulator::counts();
    if (device.kind == DeviceKind::Cuda && step >= warm_up) {
      CHECK(calls.allocations == 0);
      CHECK(calls.pinned_allocations == 0);
      CHECK(calls.waits == 0);
      CHECK(calls.copies_to_host == 1);
      CHECK(calls.bytes_to_host == sizeof(StepScalars));
      CHECK(calls.copies_to_device == 3);  // two inputs and the learning rate
      CHECK(calls.graph_launches == (graphs ? 3 : 0));
    }
    const NoGradScope no_grad;
    const ModelInput input = read_batch(rows, {0, 100, 4}, model.config()).input;
    CHECK(model.loss(to_device(input, device, model.parameters().values().dtype())).loss.item() > 0);
  }
  CHECK(runner.take_note().empty());
  for (const StepOutcome& outcome : runner.take_outcomes(StepRunner::Newest::WaitFor)) numbers.losses.push_back(outcome.loss);
  numbers.values = model.parameters().values().to_vector<float>();
  return numbers;
}

RunConfig config_for(const std::filesystem::path& folder, const char* run_id) {
  RunConfig config;
  config.model = parse_model_config(transformer_blocks, "test", BlockRegistry());
  config.model.num_tokens = 256;
  config.model.pad_token_id = 0;
  config.input_seq_len = 32;
  config.train.target_elements = 192;  // 48 micro-batches, the first 30 without graphs because they are timed
  config.train.batch_size = 4;
  config.train.gradient_accumulate_every = 2;
  config.train.precision = "float32";
  config.train.save_state_every = 0;
  config.io.name_model = "m";
  config.io.run_id = run_id;
  config.io.output_dir = (folder / "runs").string();
  config.io.dataset_id = "files";
  config.io.dataset_dir = (folder / "text").string();
  config.io.log_train_loss_amount = 7;
  config.io.validate_amount = 3;
  return config;
}

void write_text(const TemporaryFolder& folder) {
  std::string text;
  for (int i = 0; i < 900; ++i) text += "word " + std::to_string(i * i) + " ";
  folder.write("text/train/a", text);
  folder.write("text/validation/a", text.substr(0, 700));
}

std::vector<float> values_after(Trainer& trainer) { return trainer.model().parameters().values().to_vector<float>(); }

}  // namespace

TEST_CASE("a step allocates nothing, waits for nothing, reads only the step scalars, and graphs change no bit") {
  for (const char* yaml : {transformer_blocks, mamba_blocks, masked_blocks})
    for (const DType precision : {DType::Float32, DType::BFloat16}) {
      CAPTURE(yaml);
      CAPTURE(name_of(precision));
      const Numbers eager = train(yaml, device(), precision, false), graphs = train(yaml, device(), precision, true);
      CHECK(eager.losses.size() == steps);
      CHECK(eager.losses == graphs.losses);
      CHECK(eager.values == graphs.values);
      const Numbers cpu = train(yaml, Device{}, precision, false);
      for (std::size_t i = 0; i < steps; ++i) CHECK(eager.losses[i] == doctest::Approx(cpu.losses[i]).epsilon(precision == DType::BFloat16 ? 2e-2 : 1e-4));
    }
}

TEST_CASE("a run with graphs has the bits of a run without them, also when it is stopped and resumed") {
  const TemporaryFolder folder;
  write_text(folder);
  std::vector<std::vector<float>> values;
  for (const bool graphs : {false, true}) {
    RunConfig config = config_for(folder.path(), graphs ? "graphs" : "eager");
    config.train.cuda_graphs = graphs;
    emulator::counts() = {};
    Trainer trainer(config, DatasetRegistry(), {.device = device()});
    const TrainingResult result = trainer.run();
    CHECK(result.state.steps == 24);
    CHECK((emulator::counts().graph_launches > 16) == graphs);
    values.push_back(values_after(trainer));
  }
  RunConfig config = config_for(folder.path(), "resumed");
  TrainingResult first;
  {
    TrainerOptions options{.device = device()};
    int asked = 0;
    options.callbacks.should_stop = [&asked] { return ++asked > 43; };
    Trainer trainer(config, DatasetRegistry(), options);
    first = trainer.run();
    CHECK(first.stopped);
  }
  Trainer trainer(read_config_of_run(first.folder, BlockRegistry()), DatasetRegistry(), {.device = device(), .resume_folder = first.folder});
  CHECK(trainer.run().state.steps == 24);
  values.push_back(values_after(trainer));
  CHECK(values[0] == values[1]);
  CHECK(values[0] == values[2]);
}

TEST_CASE("hooks run in order with graphs, and a loss of the program's own is part of a graph only if it may be") {
  const TemporaryFolder folder;
  write_text(folder);
  struct Outcome {
    std::vector<float> values, average;
    std::int64_t launches = 0;
    int losses = 0;
  };
  const auto train = [&](const char* id, Device where, bool graphs, bool fits_graph, const TrainerHooks& more = {}, int stop = 1000) {
    Outcome outcome;
    Tensor average;
    TrainerHooks hooks = more;
    hooks.loss = [&](const Model& model, const ModelInput& input, const ForwardContext& context) {
      outcome.losses += context.training;
      return scale(model.loss(input, context).loss, 0.5);
    };
    hooks.loss_fits_graph = fits_graph;
    hooks.before_update = [](Model& model, const StepInfo& info) {
      Tensor gradients = model.parameters().gradients();
      convert(scale(gradients, info.step % 2 == 0 ? 1.0 : 0.25), gradients);
    };
    hooks.after_update = [&](Model& model, const StepInfo&) { convert(add(scale(average, 0.75), scale(model.parameters().values(), 0.25)), average); };
    hooks.state = [&](const Model& model) {
      average = zeros_like(model.parameters().values());
      return std::vector<NamedTensor>{{"average", average}};
    };
    RunConfig config = config_for(folder.path(), id);
    config.train.cuda_graphs = graphs;
    emulator::counts() = {};
    int asked = 0;
    TrainingResult result;
    {
      Trainer trainer(config, DatasetRegistry(), {.device = where, .callbacks = {.should_stop = [&] { return ++asked > stop; }}, .hooks = hooks});
      result = trainer.run();
      outcome.values = values_after(trainer);
    }
    outcome.launches = emulator::counts().graph_launches;
    if (result.stopped) {
      Trainer trainer(read_config_of_run(result.folder, BlockRegistry()), DatasetRegistry(), {.device = where, .resume_folder = result.folder, .hooks = hooks});
      trainer.run();
      outcome.values = values_after(trainer);
    }
    outcome.average = average.to_vector<float>();
    return outcome;
  };
  const Outcome eager = train("eager", device(), false, true), apart = train("apart", device(), true, false), inside = train("inside", device(), true, true),
                stopped = train("stopped", device(), true, true, {}, 45), cpu = train("cpu", Device{}, false, false);
  CHECK(eager.launches == 0);
  CHECK(apart.launches == 23);             // updates, except the first one
  CHECK(inside.launches == 23 + 17);       // and the micro-steps that are not timed, except the first one
  CHECK(eager.losses == 48);
  CHECK(apart.losses == 48);
  CHECK(inside.losses == 30 + 1 + 1);      // timed, eager, captured
  for (const Outcome* other : {&apart, &inside, &stopped}) {
    CHECK(other->values == eager.values);
    CHECK(other->average == eager.average);
  }
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < cpu.average.size(); ++i) {
    difference += std::pow(static_cast<double>(eager.average[i]) - static_cast<double>(cpu.average[i]), 2);
    square += std::pow(static_cast<double>(cpu.average[i]), 2);
  }
  CHECK(std::sqrt(difference / square) < 1e-3);

  // An optimizer of the program's own computes with ops.
  struct Descent final : Optimizer {
    void step(Tensor& values, const Tensor& gradients, const StepInfo& info) override { convert(add(values, scale(gradients, -info.learning_rate)), values); }
  };
  const TrainerHooks own{.make_optimizer = [](const Model&) { return std::make_unique<Descent>(); }};
  const Outcome own_eager = train("own_eager", device(), false, true, own), own_graphs = train("own_graphs", device(), true, true, own);
  CHECK(own_graphs.launches == 17);
  CHECK(own_eager.values == own_graphs.values);
  CHECK(own_eager.values != eager.values);
}

TEST_CASE("a run that was begun on one device resumes on the other") {
  const TemporaryFolder folder;
  write_text(folder);
  Trainer whole(config_for(folder.path(), "whole"), DatasetRegistry(), {});
  const TrainingResult expected = whole.run();
  for (const Device first_device : {Device{}, device()}) {
    const Device second_device = first_device == Device{} ? device() : Device{};
    TrainingResult first;
    {
      TrainerOptions options{.device = first_device};
      int asked = 0;
      options.callbacks.should_stop = [&asked] { return ++asked > 20; };
      Trainer trainer(config_for(folder.path(), first_device == Device{} ? "from_cpu" : "from_gpu"), DatasetRegistry(), options);
      first = trainer.run();
      REQUIRE(first.stopped);
    }
    Trainer trainer(read_config_of_run(first.folder, BlockRegistry()), DatasetRegistry(), {.device = second_device, .resume_folder = first.folder});
    CHECK(trainer.model().parameters().values().device() == second_device);
    const TrainingResult result = trainer.run();
    CHECK(result.state.steps == expected.state.steps);
    REQUIRE(result.validation_loss.has_value());
    CHECK(*result.validation_loss == doctest::Approx(*expected.validation_loss).epsilon(1e-3));
  }
}

TEST_CASE("work that cannot be captured runs without a graph and says why") {
  InputStaging staging(device());
  StepGraphs graphs(device(), staging);
  ModelInput input;
  input.ids = from_values<std::int64_t>(Shape{3}, std::vector<std::int64_t>{4, 5, 6});
  int runs = 0;
  const auto reads = [&](const ModelInput& there) {
    ++runs;
    const auto ids = there.ids.to_vector<std::int64_t>();
    return from_values<float>(Shape{}, std::vector<float>{static_cast<float>(ids[0])}, there.ids.device());
  };
  for (int i = 0; i < 4; ++i) {
    input.ids.host_data<std::int64_t>()[0] = i;
    CHECK(graphs.run_micro_step("k", input, reads).item() == i);
    const std::string note = graphs.take_note();
    CHECK(note == (i == 1 ? "the micro-step runs without a CUDA graph: cuda: a copy to the host is not possible while work is captured as a graph" : ""));
  }
  CHECK(runs == 5);  // the capture failed before the work was complete
}

TEST_CASE("inputs of shapes that do not repeat are not captured") {
  InputStaging staging(device());
  StepGraphs graphs(device(), staging);
  for (std::int64_t n = 1; n < 200; ++n) {
    ModelInput input;
    input.ids = from_values<std::int64_t>(Shape{n}, std::vector<std::int64_t>(static_cast<std::size_t>(n), n));
    emulator::counts() = {};
    const Tensor loss = graphs.run_micro_step(concat_text(n), input, [](const ModelInput& there) { return clone(there.ids.slice(0, 1)); });
    CHECK(loss.item() == n);
    CHECK(emulator::counts().graph_launches == 0);
  }
}

TEST_CASE("workers with GPUs sum gradients through host memory as workers on the CPU do") {
  const TemporaryFolder folder;
  write_text(folder);
  const int devices = static_cast<int>(runtime_of(device().kind).devices().size());
  const auto train_on = [&](const char* id, DeviceKind kind) {
    std::vector<float> values;
    const std::vector<std::string> errors = run_workers(2, [&](Communicator& communicator) {
      const Device own{kind, kind == DeviceKind::Cpu ? 0 : communicator.rank() % devices};
      Trainer trainer(config_for(folder.path(), id), DatasetRegistry(), {.device = own, .communicator = &communicator});
      trainer.run();
      if (communicator.rank() == 0) values = values_after(trainer);
    });
    for (const std::string& error : errors) CHECK(error == "");
    return values;
  };
  const std::vector<float> gpu = train_on("gpu", DeviceKind::Cuda), cpu = train_on("cpu", DeviceKind::Cpu);
  REQUIRE(gpu.size() == cpu.size());
  REQUIRE(!gpu.empty());
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < gpu.size(); ++i) {
    difference += std::pow(static_cast<double>(gpu[i]) - static_cast<double>(cpu[i]), 2);
    square += std::pow(static_cast<double>(cpu[i]), 2);
  }
  CHECK(std::sqrt(difference / square) < 1e-3);
}

}  // namespace mblm::testing
