// A custom stage block and data set (examples/lstm_block.h), used like the built-in ones.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/io/safetensors.h"
#include "examples/lstm_block.h"
#include "tests/error_text.h"
#include "tests/op_case.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

using lstm::LstmConfig;

BlockRegistry registry_with_lstm() {
  BlockRegistry registry;
  registry.add<LstmConfig>();
  return registry;
}

std::string yaml_with(const std::string& global, const std::string& chunks = "null") {
  return "num_tokens: 40\npad_token_id: 39\nhidden_dims: [12, 10]\nseq_lens: [5, 4]\nnum_layers: [2, 2]\ntrain_checkpoint_chunks: " + chunks +
         "\nblock: [" + global + ", {dropout: 0.25, pos_emb_type: fixed}]\n";
}

ModelConfig parsed(const std::string& global, const std::string& chunks = "null") {
  return parse_model_config(yaml_with(global, chunks), "m.yaml", registry_with_lstm());
}

ModelConfig from_structs(double global_dropout) {
  const auto global = std::make_shared<LstmConfig>(), local = std::make_shared<LstmConfig>();
  global->dropout = global_dropout;
  local->dropout = 0.25;
  local->pos_emb_type = PositionKind::Fixed;
  return {.num_tokens = 40,
          .pad_token_id = 39,
          .hidden_dims = {12, 10},
          .seq_lens = {5, 4},
          .num_layers = {2, 2},
          .train_checkpoint_chunks = {},
          .blocks = {global, local}};
}

std::unique_ptr<Model> make_model(const ModelConfig& config, DType dtype = DType::Float32) {
  auto model = std::make_unique<Model>(config);
  model->allocate({}, dtype);
  model->initialize(3);
  return model;
}

Tensor some_ids(std::int64_t batch, std::int64_t length) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * length));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i * i % 37);
  return from_values(Shape{batch, length}, ids);
}

// Arithmetic sequences: the number after x is x + step, modulo 30. `step` is an argument of the data set.
class Runs final : public Dataset {
 public:
  explicit Runs(const DatasetRequest& request) : request_(request) {
    read_fields(request.arguments == nullptr ? "" : *request.arguments, "runs", "io.dataset_args",
                [this](Fields& f) { f.required("step", step_, positive); });
  }
  std::int64_t size(std::int64_t) const override { return request_.split == Split::Train ? 500 : 12; }
  std::int64_t length() const override { return request_.length; }
  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    for (std::size_t i = 0; i < out.ids.size(); ++i) out.ids[i] = (epoch + index * 7 + static_cast<std::int64_t>(i) * step_) % 30;
  }

 private:
  const DatasetRequest request_;
  std::int64_t step_ = 1;
};

DatasetRegistry registry_with_runs() {
  DatasetRegistry registry;
  registry.add("runs", [](const DatasetRequest& request) -> std::unique_ptr<Dataset> {
    return request.split == Split::Test ? nullptr : std::make_unique<Runs>(request);
  });
  return registry;
}

RunConfig run_config(const TemporaryFolder& folder) {
  RunConfig config;
  config.model = from_structs(0);
  config.input_seq_len = 20;
  config.train.target_elements = 2400;
  config.train.batch_size = 8;
  config.train.learning_rate = 0.02;
  config.train.gradient_clipping = 1;
  config.io.name_model = "own";
  config.io.output_dir = folder / "runs";
  config.io.dataset_id = "runs";
  config.io.dataset_dir = "nowhere";
  config.io.dataset_args = std::make_shared<std::string>("step: 3\n");
  config.io.num_models_to_save = 1;
  config.io.validate_amount = 2;
  config.io.run_id = "1";
  return config;
}

}  // namespace

TEST_CASE("a custom block from structs, by type or by fields is the same block") {
  const auto structs = make_model(from_structs(0.5));
  const Tensor ids = some_ids(2, 19);
  for (const char* global : {"{block_type: lstm, dropout: 0.5}", "{dropout: 0.5, pos_emb_type: null}"}) {
    const auto read = make_model(parsed(global));
    CHECK(read->logits(ids).to_vector<float>() == structs->logits(ids).to_vector<float>());
  }
  const double counted = parameter_count(structs->config());
  CHECK(counted == static_cast<double>(structs->parameters().count()));
}

TEST_CASE("a custom block's fields are checked like built-in ones") {
  const auto error = [](const char* global) { return error_text<ConfigError>([&] { parsed(global); }); };
  CHECK(error("{dropout: 1.5}") == "m.yaml:7: block[0].dropout: expected a number in [0, 1), got 1.5");
  CHECK(error("{block_type: lstm}") == "m.yaml:7: block[0].dropout: expected a number in [0, 1), the field is missing");
  CHECK(error("{block_type: lstm, dropuot: 0.5}") == "m.yaml:7: block[0].dropuot: no such field, did you mean dropout?");
  CHECK(error("{block_type: gru, dropout: 0}") == "m.yaml:7: block[0].block_type: expected lstm, mamba1, mamba2 or transformer, got \"gru\"");
  CHECK(error_text<ConfigError>([] { Model model(from_structs(2)); }) ==
        "config: block[0].dropout: expected a number in [0, 1), got 2");
}

TEST_CASE("a custom block is saved under its own names and loaded") {
  const TemporaryFolder folder;
  const auto model = make_model(from_structs(0.5));
  save_model(*model, folder / "model.safetensors");
  const SafetensorsFile file(folder / "model.safetensors");
  for (const char* name : {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"})
    for (const char* stage : {"stage_models.0.lstm.", "stage_models.1.lstm."}) CHECK(file.has(std::string(stage) + name));
  const auto again = load_model(folder / "model.safetensors", registry_with_lstm());
  const Tensor ids = some_ids(1, 20);
  CHECK(again->logits(ids).to_vector<float>() == model->logits(ids).to_vector<float>());
  CHECK(to_yaml(again->config()) == to_yaml(model->config()));
  CHECK(error_text<ConfigError>([&] { load_model(folder / "model.safetensors", BlockRegistry()); }).find("got \"lstm\"") != std::string::npos);
}

TEST_CASE("a custom block continues from its state with the same numbers as in one pass") {
  const auto model = make_model(from_structs(0), DType::Float64);
  const StageBlock& block = model->hierarchy().block(0);
  const Tensor x = from_values(Shape{2, 5, 12},
                               std::vector<double>(device_inputs({.inputs = {{.shape = Shape{2, 5, 12}}}}, DType::Float64)[0].to_vector<double>()));
  const NoGradScope no_grad;
  const Tensor whole = block.forward(x, nullptr, {});
  const std::unique_ptr<State> state = block.start(2);
  const std::vector<Tensor> parts{block.forward(slice_sequence(x, 0, 2), state.get(), {}), block.forward(slice_sequence(x, 2, 5), state.get(), {})};
  CHECK(state->lengths == std::vector<std::int64_t>{5, 5});
  CHECK(relative_error(to_host(parts[0]), to_host(slice_sequence(whole, 0, 2))) < 1e-14);
  CHECK(relative_error(to_host(parts[1]), to_host(slice_sequence(whole, 2, 5))) < 1e-14);
}

TEST_CASE("a custom block is recomputed in chunks with the same dropout") {
  const Tensor ids = some_ids(3, 20);
  const ForwardContext context{.training = true, .seed = 5, .step_scalars = make_step_scalars({}, {.micro_step = 2}), .first_sequence = 6};
  const auto numbers = [&](const std::string& chunks) {
    const auto model = make_model(parsed("{dropout: 0.5}", chunks), DType::Float64);
    const Tensor loss = model->loss(ids, {}, context).loss;
    backward(loss);
    std::vector<HostArray> all{to_host(loss)};
    for (const NamedTensor& gradient : model->parameters().named_gradients()) all.push_back(to_host(gradient.tensor));
    return all;
  };
  const std::vector<HostArray> whole = numbers("null"), chunked = numbers("[4]");
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(relative_error(chunked[i], whole[i]) < 1e-12);
}

TEST_CASE("the trainer trains a custom block on a custom data set") {
  const TemporaryFolder folder;
  std::vector<std::string> told;
  TrainerOptions options;
  options.callbacks.on_log = [&](const std::string& line) { told.push_back(line); };
  Trainer trainer(run_config(folder), registry_with_runs(), options);
  const double before = evaluate(trainer.model(),
                                 *registry_with_runs().make("runs", {.path = {},
                                                                     .arguments = std::make_shared<std::string>("step: 3"),
                                                                     .split = Split::Validation,
                                                                     .length = 20,
                                                                     .num_tokens = 40,
                                                                     .pad_token_id = 39}),
                                 {.batch_size = 4})
                            .mean_batch_loss();
  const TrainingResult result = trainer.run();
  CHECK(before > 3.0);
  CHECK(*result.validation_loss < 1.0);
  CHECK(!result.test_loss);
  CHECK(std::none_of(told.begin(), told.end(), [](const std::string& line) { return line.find("dataset_args") != std::string::npos; }));

  // The files of the run are enough to use the model and to repeat the run.
  const auto best = load_model(result.folder / "checkpoints" / "best.safetensors", registry_with_lstm());
  const std::vector<std::int64_t> prompt{1, 4, 7, 10, 13, 16};
  CHECK(generate(*best, prompt, 3, {}) == generate(trainer.model(), prompt, 3, {}));
  const RunConfig again = read_run_config(result.folder / "config.yaml", registry_with_lstm());
  CHECK(again.model.blocks[1]->type() == "lstm");
  CHECK(*again.io.dataset_args == "step: 3\n");
}

TEST_CASE("errors of a custom run are reported before anything is written") {
  const TemporaryFolder folder;
  const auto error = [&](const std::function<void(RunConfig&)>& change) {
    RunConfig config = run_config(folder);
    change(config);
    return error_text<Error>([&] { Trainer trainer(config, registry_with_runs()); });
  };
  CHECK(error([](RunConfig& c) { c.io.dataset_id = "walks"; }) == "io.dataset_id: expected one of clevr, files, pg19, pg19masked, runs, got \"walks\"");
  CHECK(error([](RunConfig& c) { c.io.dataset_args = nullptr; }) ==
        "runs: io.dataset_args.step: expected an integer of at least 1, the field is missing");
  CHECK(error([](RunConfig& c) { c.train.batch_size = 0; }) == "config: train.batch_size: expected an integer of at least 1, got 0");
  CHECK(error([](RunConfig& c) { c.input_seq_len = 0; }) == "config: params.input_seq_len: expected an integer of at least 1, got 0");
  CHECK(error([](RunConfig& c) { c.model.blocks.pop_back(); }) == "config: params.block: expected 2 entries, one per stage, got 1");
  CHECK(folder.count() == 0);
}

}  // namespace mblm::testing
