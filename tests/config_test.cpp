// Values read from configurations, and the errors of invalid ones.
#include "mblm/config/config.h"
#include "mblm/stage_block.h"

#include <doctest/doctest.h>

#include <limits>

#include "mblm/config/yaml.h"
#include "tests/config_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

// A block defined by an embedding program.
struct LstmConfig : BlockConfig {
  std::string name;
  double dropout = 0;
  std::int64_t lanes = 1;
  explicit LstmConfig(std::string block_type = "lstm") : name(std::move(block_type)) {}
  std::string_view type() const override { return name; }
  void fields(Fields& f) override {
    f.required("dropout", dropout, probability);
    f.optional("lanes", lanes, positive);
    BlockConfig::fields(f);
  }
  std::unique_ptr<StageBlock> build(const Scope&, std::int64_t, std::int64_t) const override { return nullptr; }
};

BlockRegistry registry_with(const std::string& type) {
  BlockRegistry registry;
  registry.add(type, [type] { return std::make_shared<LstmConfig>(type); });
  return registry;
}

std::string model_text(const std::string& block, const std::string& widths = "[16]") {
  return "num_tokens: 256\npad_token_id: 0\nhidden_dims: " + widths + "\nseq_lens: [8]\nnum_layers: [1]\nblock: " + block + "\n";
}

ModelConfig model(const std::string& block, const BlockRegistry& registry = {}) { return parse_model_config(model_text(block), "m.yaml", registry); }

std::string model_error(const std::string& block, const BlockRegistry& registry = {}) {
  return error_text<ConfigError>([&] { model(block, registry); });
}

constexpr const char* mamba_fields = "{d_state: 8, d_conv: 4, expand: 2, headdim: 8}";

}  // namespace

TEST_CASE("a configuration is read") {
  const RunConfig config = parsed(small_config);
  CHECK(config.input_seq_len == 32);
  CHECK(config.model.num_tokens == 256);
  CHECK(config.model.hidden_dims == std::vector<std::int64_t>{16, 24});
  CHECK(config.model.stages() == 2);
  CHECK(config.model.context() == 32);
  CHECK(config.model.patch_bytes(0) == 4);
  CHECK(config.model.patch_bytes(1) == 1);
  CHECK_FALSE(config.model.fixed_context());
  CHECK_FALSE(config.model.train_checkpoint_chunks.has_value());
  const auto mamba = std::dynamic_pointer_cast<const Mamba2Config>(config.model.blocks.at(0));
  REQUIRE(mamba);
  CHECK(mamba->headdim == 8);
  CHECK(mamba->dropout == 0);
  const auto transformer = std::dynamic_pointer_cast<const TransformerConfig>(config.model.blocks.at(1));
  REQUIRE(transformer);
  CHECK(transformer->attn_use_rot_embs);
  CHECK(transformer->ff_multiplier == 2);
  CHECK(config.train.target_elements == 1000);
  CHECK(config.train.learning_rate == 0.001);
  CHECK(config.train.warmup_steps_perc == 0.1);
  CHECK_FALSE(config.train.gradient_clipping.has_value());
  CHECK_FALSE(config.train.precision.has_value());
  CHECK(config.train.save_state_every == 600);
  CHECK(config.train.cuda_graphs);
  CHECK(config.io.enabled_loss_log_for_gpus == std::vector<std::int64_t>{0});
  CHECK(config.io.dataset_args == nullptr);
  CHECK_FALSE(config.io.run_id.has_value());
  CHECK_FALSE(config.resume.has_value());
}

TEST_CASE("all YAML forms of values") {
  CHECK(parsed(with("1_000", "+2_000_000")).train.target_elements == 2'000'000);
  for (const char* whole : {"2.0", "2.", "0.2e1", "20e-1", "+2.0E0"}) CHECK(parsed(with("batch_size: 2", std::string("batch_size: ") + whole)).train.batch_size == 2);
  CHECK(parsed(with("1_000", "1.0e+9")).train.target_elements == 1'000'000'000);
  for (const char* rate : {"0.25", ".25", "25e-2", "2.5E-1", "+0.2_5"}) CHECK(parsed(with("1e-3", rate)).train.learning_rate == 0.25);
  CHECK(parsed(with("1e-3", "5")).train.learning_rate == 5.0);
  for (const char* yes : {"true", "True", "yes", "on"})
    CHECK(parsed(with("batch_size: 2", std::string("batch_size: 2\n  shuffle_train: ") + yes)).train.shuffle_train);
  for (const char* nothing : {"null", "~", ""})
    CHECK_FALSE(parsed(with("batch_size: 2", std::string("batch_size: 2\n  gradient_clipping: ") + nothing)).train.gradient_clipping.has_value());
  CHECK(parsed(with("output_dir: runs", "output_dir: /data/output < set this!")).io.output_dir == "/data/output < set this!");
  CHECK(parsed(with("output_dir: runs", "output_dir: \"a: b\"")).io.output_dir == "a: b");
  CHECK(parsed(with("name_model: small", "name_model: 20")).io.name_model == "20");
  CHECK(parsed(with("\n  num_models", "\n  description: >-\n    two\n    lines\n  num_models")).io.description == "two lines");
  CHECK(parsed(with("[16, 24]", "&dims [16, 24]")).model.hidden_dims[1] == 24);
  CHECK(parsed(with("num_layers: [1, 2]", "num_layers: &l [1, 2]\n  train_checkpoint_chunks: [3]")).model.train_checkpoint_chunks->front() == 3);
}

TEST_CASE("dataset_args is kept as YAML text") {
  const RunConfig config =
      parsed(with("dataset_dir: data", "dataset_dir: data\n  dataset_args:\n    mode: a\n    weights: [0, 1.5]\n    crop: null"));
  REQUIRE(config.io.dataset_args);
  CHECK(*config.io.dataset_args == "mode: a\nweights: [0, 1.5]\ncrop: null\n");
  std::string mode;
  std::vector<double> weights;
  std::optional<std::int64_t> crop = 4;
  const auto declare = [&](Fields& f) {
    f.choice("mode", mode, {"a", "b"}, true);
    f.required("weights", weights, not_negative);
    f.optional("crop", crop);
  };
  read_fields(*config.io.dataset_args, "c.yaml", "io.dataset_args", declare);
  CHECK(mode == "a");
  CHECK(weights == std::vector<double>{0, 1.5});
  CHECK_FALSE(crop.has_value());
  CHECK_THROWS_WITH_AS(read_fields("mode: c", "c.yaml", "io.dataset_args", declare), 
                       "c.yaml: io.dataset_args.mode: expected a or b, got \"c\"\n"
                       "c.yaml: io.dataset_args.weights: expected a list of numbers of at least 0, the field is missing",
                       ConfigError);
  CHECK_THROWS_WITH_AS(read_fields("", "c.yaml", "io.dataset_args", declare), 
                       "c.yaml: io.dataset_args.mode: expected a or b, the field is missing\n"
                       "c.yaml: io.dataset_args.weights: expected a list of numbers of at least 0, the field is missing",
                       ConfigError);
  CHECK_THROWS_WITH_AS(read_fields("{mode: a, weights: [0, -1]}", "c.yaml", "io.dataset_args", declare),
                       "c.yaml: io.dataset_args.weights[1]: expected a number of at least 0, got -1", ConfigError);
  CHECK(error_with("dataset_dir: data", "dataset_dir: data\n  dataset_args: 5") == "27: io.dataset_args: expected a map or null, got 5");
}

TEST_CASE("text that is not a configuration") {
  CHECK(error_with("train:\n", "train: [\n") == "18: not YAML: end of sequence flow not found");
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  batch_size: 8") == "20: not YAML: duplicate key \"batch_size\"");
  CHECK(error_with("batch_size: 2", "[1]: 2") == "19: not YAML: a key must be a scalar");
  CHECK(error_with("batch_size: 2", "batch_size: &a [*a]") == "19: not YAML: an alias refers to the value that contains it");
  CHECK(error_with("params:", "---\na: 1\n---\nparams:") == " expected one YAML document, got several");
  for (const char* text : {"", "# nothing\n", "~"})
    CHECK(error_text<ConfigError>([&] { parsed(text); }) ==
          "c.yaml:1: train.target_elements: expected a length of the run (target_elements, max_steps or epochs), the field is missing\n"
          "c.yaml:1: io.dataset_id: expected text, the field is missing\n"
          "c.yaml:1: io.dataset_dir: expected text, the field is missing");
  CHECK(error_text<ConfigError>([] { parsed("[1, 2]"); }) == "c.yaml:1: expected a map, got a list of 2");
  CHECK(error_text<ConfigError>([] { parsed("hello"); }) == "c.yaml:1: expected a map, got \"hello\"");
  std::string bomb = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string last = std::to_string(i - 1), name = std::to_string(i);
    bomb += "a" + name + ": &a" + name + " [*a" + last + ", *a" + last + ", *a" + last + ", *a" + last + ", *a" + last + ", *a" + last + "]\n";
  }
  CHECK(error_text<ConfigError>([&] { parsed(bomb); }).find("more than 100000 values") != std::string::npos);
  CHECK(error_text<ConfigError>([] { parsed("params: " + std::string(20'000, '[')); }).starts_with("c.yaml:1: not YAML: "));
}

TEST_CASE("unknown and missing fields and sections") {
  CHECK(error_with("  dataset_id: files\n", "") == "22: io.dataset_id: expected text, the field is missing");
  CHECK(error_with("  hidden_dims: [16, 24]\n", "") == "1: params.hidden_dims: expected a list of integers of at least 1, the field is missing");
  for (const char* name : {"input_seq_len", "num_tokens", "pad_token_id", "seq_lens", "num_layers", "target_elements", "dataset_dir"}) {
    CAPTURE(name);
    const std::size_t begin = small_config.find(std::string("  ") + name + ":");
    const std::string line = small_config.substr(begin, small_config.find('\n', begin) + 1 - begin);
    CHECK(error_with(line, "").ends_with("the field is missing"));
  }
  CHECK(error_with("batch_size", "batch_sise") == "19: train.batch_sise: no such field, did you mean batch_size?");
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  lr: 1") == "20: train.lr: no such field");
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  \"a\\nb c\": 1") == "20: train.\"a\\nb c\": no such field");
  CHECK(error_with("train:", "trian:") == "16: trian: no such field, did you mean train?");
  CHECK(error_with("io:\n", "io: 5\nsummary:\n") == "22: io: expected a map, got 5");
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  validate_amount: 5") == "20: train.validate_amount: no such field, did you mean io.validate_amount?");
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  hiden_dims: 5") == "20: train.hiden_dims: no such field, did you mean params.hidden_dims?");
  CHECK(error_with("io:\n", "learning_rate: 5\nio:\n") == "22: learning_rate: no such field, did you mean train.learning_rate?");
  CHECK(error_with("  block:\n    - d_state: 8\n      d_conv: 4\n      expand: 2\n      headdim: 8\n"
                   "    - attn_head_dims: 8\n      attn_num_heads: 2\n      attn_use_rot_embs: true\n",
                   "") == "1: params.block: expected a map or a list of maps, the field is missing");
  CHECK_NOTHROW(parsed(small_config + "summary:\n  anything: [1, 2]\n"));
  CHECK_NOTHROW(parsed(small_config + "resume: null\n"));
}

TEST_CASE("all missing and wrong fields are reported at once") {
  const std::string text =
      "params:\n"                                        // 1
      "  input_seq_len: 32\n"                            // 2
      "  num_tokens: none\n"                             // 3
      "  hidden_dims: [16, 24]\n"                        // 4
      "  num_layers: [1, 0]\n"                           // 5
      "  block:\n"                                       // 6
      "    - {d_state: 8, d_conf: 4, expand: x}\n"       // 7
      "    - 5\n"                                        // 8
      "    - {block_type: transformr}\n"                 // 9
      "    - {block_type: mamba2, d_state: 0}\n"         // 10
      "train:\n"                                         // 11
      "  batch_sise: 2\n"                                // 12
      "  learning_rate: fast\n"                          // 13
      "io:\n"                                            // 14
      "  dataset_idd: files\n"                           // 15
      "resume: {next_epoch_index: -1}\n";                // 16
  CHECK(error_text<ConfigError>([&] { parsed(text); }) ==
        "c.yaml:3: params.num_tokens: expected an integer of at least 1, got \"none\"\n"
        "c.yaml:1: params.pad_token_id: expected an integer of at least 0, the field is missing\n"
        "c.yaml:1: params.seq_lens: expected a list of integers of at least 1, the field is missing\n"
        "c.yaml:5: params.num_layers[1]: expected an integer in [1, 65536], got 0\n"
        "c.yaml:8: params.block[1]: expected a map, got 5\n"
        "c.yaml:7: params.block[0].d_conf: no such field in a mamba2, the closest block type, did you mean d_conv?\n"
        "c.yaml:7: params.block[0].headdim: expected a value for a mamba2, the closest block type, the field is missing\n"
        "c.yaml:7: params.block[0].expand: expected an integer of at least 1, got \"x\"\n"
        "c.yaml:9: params.block[2].block_type: expected mamba1, mamba2 or transformer, got \"transformr\", did you mean transformer?\n"
        "c.yaml:10: params.block[3].d_state: expected an integer of at least 1, got 0\n"
        "c.yaml:10: params.block[3].d_conv: expected an integer of at least 1, the field is missing\n"
        "c.yaml:10: params.block[3].expand: expected an integer of at least 1, the field is missing\n"
        "c.yaml:10: params.block[3].headdim: expected an integer of at least 1, the field is missing\n"
        "c.yaml:12: train.batch_sise: no such field, did you mean batch_size?\n"
        "c.yaml:13: train.learning_rate: expected a number above 0, got \"fast\"\n"
        "c.yaml:15: io.dataset_idd: no such field, did you mean dataset_id?\n"
        "c.yaml:14: io.dataset_dir: expected text, the field is missing\n"
        "c.yaml:16: resume.checkpoint_file: expected text, the field is missing\n"
        "c.yaml:16: resume.next_epoch_index: expected an integer of at least 0, got -1");
  // Errors that need several fields, in several sections.
  CHECK(error_text<ConfigError>([] { parsed(with("name_model: small", "name_model: ''", with("output_dir: runs", "output_dir: ''", with("headdim: 8", "headdim: 7", with("pad_token_id: 0", "pad_token_id: 300"))))); }) ==
        "c.yaml:4: params.pad_token_id: expected an id below num_tokens = 256, got 300\n"
        "c.yaml:12: params.block[0].headdim: expected a divisor of expand * width = 2 * 16 = 32, got 7\n"
        "c.yaml:23: io.name_model: expected a name, got \"\"\n"
        "c.yaml:24: io.output_dir: expected a folder, got \"\"");
  CHECK(error_of({"train.batch_size=x", "io.validate_amount=-1"}) ==
        "command line: train.batch_size: expected an integer of at least 1, got \"x\"\n"
        "command line: io.validate_amount: expected an integer of at least 0, got -1");
  CHECK(error_of({"train", "params.block.d_state=1", "learning_rate=3"}) ==
        "command line: expected FIELD=VALUE, got \"train\"\n"
        "command line: params.block.d_state: expected a map at params.block, found a list of 2, did you mean params.block[0].d_state?\n"
        "command line: learning_rate: no such field, did you mean train.learning_rate?");
}

TEST_CASE("the data and a length are all that a config needs") {
  for (const char* length : {"target_elements: 100", "max_steps: 5", "epochs: 2"}) {
    const RunConfig config =
        parse_run_config(std::string("io: {dataset_id: files, dataset_dir: d}\ntrain: {") + length + "}\n", "folder/first.yaml", BlockRegistry());
    CHECK(config.io.name_model == "first");
    CHECK(config.io.output_dir == "runs");
    CHECK(config.io.num_models_to_save == 1);
    CHECK(config.io.validate_amount == 10);
    CHECK(config.io.log_train_loss_amount == 1000);
    CHECK(config.train.target_elements_strategy == "batch");
    CHECK(config.train.batch_size == 1);
    CHECK(config.train.learning_rate == 1e-3);
    CHECK(config.train.gradient_accumulate_every == 1);
    CHECK(config.train.schedule == "cosine");
    CHECK(config.train.min_learning_rate == 0);
    CHECK(config.train.weight_decay == 0);
    CHECK(config.train.betas == std::vector<double>{0.9, 0.95});
    CHECK(config.train.eps == 1e-8);
    CHECK(config.model.num_tokens == 257);
    CHECK(config.model.pad_token_id == 256);
    CHECK(config.input_seq_len == config.model.context());
    CHECK(to_yaml(parsed(to_yaml(config))) == to_yaml(config));
  }
  const RunConfig wider = parsed("io: {dataset_id: files, dataset_dir: d}\n", {"train.epochs=1", "params.hidden_dims[0]=512"});
  CHECK(wider.model.hidden_dims == std::vector<std::int64_t>{512, 128});
  CHECK(parse_model_config("train: {epochs: 1}\n", "c.yaml", BlockRegistry()).hidden_dims == std::vector<std::int64_t>{256, 128});
  for (const ModelSize size : {ModelSize::Small, ModelSize::Medium, ModelSize::Large}) {
    const ModelConfig model = parse_model_config(std::string(model_yaml(size)), "model", BlockRegistry());
    const double expected = size == ModelSize::Small ? 2e6 : size == ModelSize::Medium ? 21e6 : 360e6;
    CHECK(parameter_count(model) > 0.9 * expected);
    CHECK(parameter_count(model) < 1.1 * expected);
  }
}

TEST_CASE("values of the wrong type") {
  CHECK(error_with("batch_size: 2", "batch_size: two") == "19: train.batch_size: expected an integer of at least 1, got \"two\"");
  CHECK(error_with("batch_size: 2", "batch_size: \"2\"") == "19: train.batch_size: expected an integer of at least 1, got \"2\"");
  CHECK(error_with("batch_size: 2", "batch_size: !!str 2") == "19: train.batch_size: expected an integer of at least 1, got \"2\"");
  CHECK(error_with("batch_size: 2", "batch_size: 2.5") == "19: train.batch_size: expected an integer of at least 1, got 2.5");
  CHECK(error_with("batch_size: 2", "batch_size: 1e300") == "19: train.batch_size: expected an integer of at least 1, got 1e300");
  CHECK(error_with("batch_size: 2", "batch_size: true") == "19: train.batch_size: expected an integer of at least 1, got true");
  CHECK(error_with("batch_size: 2", "batch_size:") == "19: train.batch_size: expected an integer of at least 1, got null");
  CHECK(error_with("batch_size: 2", "batch_size: [2]") == "19: train.batch_size: expected an integer of at least 1, got a list of 1");
  CHECK(error_with("batch_size: 2", "batch_size: {a: 2}") == "19: train.batch_size: expected an integer of at least 1, got a map");
  CHECK(error_with("batch_size: 2", "batch_size: 0x10") == "19: train.batch_size: expected an integer of at least 1, got \"0x10\"");
  CHECK(error_with("batch_size: 2", "batch_size: 010") == "19: train.batch_size: expected an integer of at least 1 without leading zeros, got 010");
  CHECK(error_with("batch_size: 2", "batch_size: 99999999999999999999") ==
        "19: train.batch_size: expected a 64-bit integer, got 99999999999999999999");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: fast") == "20: train.learning_rate: expected a number above 0, got \"fast\"");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: .nan") == "20: train.learning_rate: expected a number above 0, got \".nan\"");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: .inf") == "20: train.learning_rate: expected a number above 0, got \".inf\"");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: 1e999") == "20: train.learning_rate: expected a number above 0, got \"1e999\"");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: \"1e-3\"") == "20: train.learning_rate: expected a number above 0, got \"1e-3\"");
  CHECK(error_with("attn_use_rot_embs: true", "attn_use_rot_embs: \"true\"") ==
        "15: params.block[1].attn_use_rot_embs: expected true or false, got \"true\"");
  CHECK(error_with("attn_use_rot_embs: true", "attn_use_rot_embs: 1") == "15: params.block[1].attn_use_rot_embs: expected true or false, got 1");
  CHECK(error_with("[16, 24]", "16") == "5: params.hidden_dims: expected a list of integers of at least 1, got 16");
  CHECK(error_with("[16, 24]", "[16, wide]") == "5: params.hidden_dims[1]: expected an integer of at least 1, got \"wide\"");
  CHECK(error_with("name_model: small", "name_model: [a]") == "23: io.name_model: expected text, got a list of 1");
  CHECK(error_with("name_model: small", "name_model:") == "23: io.name_model: expected text, got null");
  CHECK(error_with("strategy: sequence", "strategy: bytes") == "18: train.target_elements_strategy: expected batch or sequence, got \"bytes\"");
  CHECK(error_with("name_model: small", "name_model: small\n  description: [1]") == "24: io.description: expected text or null, got a list of 1");
  CHECK(error_with("headdim: 8", "headdim: 8\n      pos_emb_type: learned") ==
        "13: params.block[0].pos_emb_type: expected fixed, rope or null, got \"learned\"");
  CHECK(error_with("batch_size: 2", "batch_size: " + std::string(100, 'x')) ==
        "19: train.batch_size: expected an integer of at least 1, got \"" + std::string(60, 'x') + "...\"");
}

TEST_CASE("values out of range") {
  const auto train = [](const std::string& line) { return error_with("batch_size: 2", "batch_size: 2\n  " + line); };
  CHECK(error_with("batch_size: 2", "batch_size: 0") == "19: train.batch_size: expected an integer of at least 1, got 0");
  CHECK(error_with("attn_head_dims: 8", "attn_head_dims: -8") == "13: params.block[1].attn_head_dims: expected an integer of at least 1, got -8");
  CHECK(error_with("num_layers: [1, 2]", "num_layers: [1, 1_000_000_000]") ==
        "7: params.num_layers[1]: expected an integer in [1, 65536], got 1000000000");
  CHECK(error_with("[8, 4]", "\n    - 8\n    - 0") == "8: params.seq_lens[1]: expected an integer of at least 1, got 0");
  CHECK(error_with("learning_rate: 1e-3", "learning_rate: 0") == "20: train.learning_rate: expected a number above 0, got 0");
  CHECK(train("weight_decay: -1") == "20: train.weight_decay: expected a number of at least 0, got -1");
  CHECK(train("betas: [0.9, 1]") == "20: train.betas[1]: expected a number in [0, 1), got 1");
  CHECK(train("betas: [0.9]") == "20: train.betas: expected 2 entries, got 1");
  CHECK(train("eps: 0") == "20: train.eps: expected a number above 0, got 0");
  CHECK(train("min_learning_rate: 0.01") == "20: train.min_learning_rate: expected at most learning_rate = 0.001, got 0.01");
  CHECK(train("schedule: step") == "20: train.schedule: expected cosine, linear or constant, got \"step\"");
  CHECK(train("max_steps: 0") == "20: train.max_steps: expected an integer of at least 1 or null, got 0");
  CHECK(train("epochs: 0") == "20: train.epochs: expected an integer in [1, 1000000] or null, got 0");
  CHECK(train("gradient_clipping: 0") == "20: train.gradient_clipping: expected a number above 0 or null, got 0");
  CHECK(train("warmup_steps_perc: 1.5") == "20: train.warmup_steps_perc: expected a number in [0, 1], got 1.5");
  CHECK(train("seed: -1") == "20: train.seed: expected an integer of at least 0, got -1");
  CHECK(train("max_eval_steps: 0") == "20: train.max_eval_steps: expected an integer of at least 1 or null, got 0");
  CHECK(train("precision: float16") == "20: train.precision: expected float32, bfloat16 or null, got \"float16\"");
  CHECK(train("on_nonfinite: ignore") == "20: train.on_nonfinite: expected stop or skip, got \"ignore\"");
  for (const char* device : {"gpu", "'cuda:'", "cuda:x", "cuda:1234", "CPU", "\"\""})
    CHECK(train(std::string("device: ") + device).starts_with("20: train.device: expected auto, cpu, cuda or cuda:N, got \""));
  for (const char* device : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"})
    CHECK(parsed(with("batch_size: 2", std::string("batch_size: 2\n  device: ") + device)).train.device == device);
  CHECK(error_with("expand: 2", "expand: 2\n      dropout: 1") == "12: params.block[0].dropout: expected a number in [0, 1), got 1");
  CHECK(error_with("name_model: small", "name_model: \"\"") == "23: io.name_model: expected a name, got \"\"");
  CHECK(error_with("name_model: small", "name_model: /small") == "23: io.name_model: expected a relative path below io.output_dir, got \"/small\"");
  CHECK(error_with("name_model: small", "name_model: \"a\\0b\"") ==
        "23: io.name_model: expected text without a zero byte, which would end a path, got \"a\\u0000b\"");
  CHECK(error_with("output_dir: runs", "output_dir: ''") == "24: io.output_dir: expected a folder, got \"\"");
}

TEST_CASE("fields that contradict each other") {
  CHECK(error_with("[8, 4]", "[8, 4, 2]") == "6: params.seq_lens: expected 2 entries, one per stage, got 3");
  CHECK(error_with("num_layers: [1, 2]", "num_layers: [1]") == "7: params.num_layers: expected 2 entries, one per stage, got 1");
  CHECK(error_with("[16, 24]", "[]") == "5: params.hidden_dims: expected at least one stage, got an empty list");
  CHECK(error_with("    - d_state: 8\n      d_conv: 4\n      expand: 2\n      headdim: 8\n", "") ==
        "8: params.block: expected 2 entries, one per stage, got 1");
  CHECK(error_with("num_layers: [1, 2]", "num_layers: [1, 2]\n  train_checkpoint_chunks: [2, 2]") ==
        "8: params.train_checkpoint_chunks: expected 1 entry, one per stage except the first, got 2");
  CHECK(error_with("num_layers: [1, 2]", "num_layers: [1, 2]\n  train_checkpoint_chunks: [0]") ==
        "8: params.train_checkpoint_chunks[0]: expected an integer of at least 1, got 0");
  CHECK(error_with("pad_token_id: 0", "pad_token_id: 256") == "4: params.pad_token_id: expected an id below num_tokens = 256, got 256");
  CHECK(error_with("attn_head_dims: 8", "attn_head_dims: 7") ==
        "13: params.block[1].attn_head_dims: expected an even size for rotary embeddings (attn_use_rot_embs), got 7");
  CHECK_NOTHROW(parsed(with("attn_use_rot_embs: true", "attn_use_rot_embs: false", with("attn_head_dims: 8", "attn_head_dims: 7"))));
  CHECK(error_with("[16, 24]", "[16, 25]") ==
        "13: params.block[1]: expected an even width (hidden_dims) for the token shift of a transformer, got 25");
  CHECK(error_with("headdim: 8", "headdim: 12") == "12: params.block[0].headdim: expected a divisor of expand * width = 2 * 16 = 32, got 12");
  CHECK(error_with("[16, 24]", "[17, 24]").starts_with("12: params.block[0].headdim: expected a divisor"));
  CHECK(error_text<ConfigError>([] { parsed(with("headdim: 8", "headdim: 17\n      pos_emb_type: rope", with("[16, 24]", "[17, 24]"))); }) ==
        "c.yaml:13: params.block[0].pos_emb_type: expected an even width (hidden_dims) for rope, which rotates pairs of channels, got 17");
  CHECK(parsed(with("input_seq_len: 32", "input_seq_len: 33")).input_seq_len == 33);
  const std::string with_fixed = with("headdim: 8", "headdim: 8\n      pos_emb_type: fixed");
  CHECK(parsed(with_fixed).model.fixed_context());
  CHECK(error_text<ConfigError>([&] { parsed(with("input_seq_len: 32", "input_seq_len: 33", with_fixed)); }) ==
        "c.yaml:2: params.input_seq_len: expected at most the context of 32 bytes (stage 0 has fixed positional embeddings), got 33");
}

TEST_CASE("sizes beyond 2^63 bytes") {
  CHECK(error_with("[16, 24]", "[16, 1_000_000_000]") ==
        "5: params.hidden_dims: expected a model with less than 2^63 bytes of parameters and optimizer state, got about 8e+18 parameters: "
        "hidden_dims [16, 1000000000], num_layers [1, 2], seq_lens [8, 4], num_tokens 256");
  CHECK(error_with("[8, 4]", "[4294967296, 4294967296]") ==
        "6: params.seq_lens: expected a product (the context in bytes) below 2^63, got [4294967296, 4294967296]");
  CHECK(error_with("expand: 2", "expand: 9223372036854775807").starts_with("5: params.hidden_dims: expected a model with less than 2^63 bytes"));
  CHECK(error_with("d_state: 8", "d_state: 9223372036854775807").starts_with("5: params.hidden_dims: expected a model with less than 2^63 bytes"));
  CHECK(error_with("attn_num_heads: 2", "attn_num_heads: 4611686018427387904").starts_with("5: params.hidden_dims: expected a model"));
  CHECK(error_with("batch_size: 2", "batch_size: 9223372036854775807") ==
        "19: train.batch_size: expected batch_size * params.input_seq_len vectors below 2^63 bytes, got 9223372036854775807 * 32 vectors of 256");
  CHECK(error_with("accumulate_every: 1", "accumulate_every: 9223372036854775807") ==
        "21: train.gradient_accumulate_every: expected a step of less than 2^63 bytes, got 9223372036854775807 micro-batches of 2 * 32");
}

TEST_CASE("a model that is not masked rejects the fields of masked language models") {
  for (const char* field : {"mask_token_id: 5", "mask_reduce_strat: any"}) {
    const std::string name(field, std::string_view(field).find(':'));
    CHECK(error_with("  num_tokens: 256\n", std::string("  num_tokens: 256\n  ") + field + "\n") ==
          "4: params." + name + ": only for masked language models, whose model fields are under mblm_config");
  }
  CHECK(error_with("batch_size: 2", "batch_size: 2\n  masking_proba: 0.1") ==
        "20: train.masking_proba: expected no value, the model is not a masked language model (mask_token_id, mblm_config)");
  CHECK_NOTHROW(parsed(with("batch_size: 2", "batch_size: 2\n  masking_proba: null")));
  CHECK(error_with("- attn_head_dims: 8", "- block_type: transformerEncoder\n      attn_head_dims: 8") ==
        "13: params.block[1].block_type: expected a causal block, got transformerEncoder, which is for masked language models "
        "(mask_token_id, mblm_config)");
}

TEST_CASE("keys of any length are written and read back") {
  for (const std::size_t length : {1021, 1022, 1023, 1024, 1025, 1026, 5000}) {
    for (const char* key_sign : {"k", "'"}) {  // plain, quoted
      CAPTURE(length);
      const std::string key(length, *key_sign);
      YamlValue inner, list, outer;
      inner.add(key, yaml_of(std::int64_t{1}));
      inner.add("a" + key, YamlValue{});
      list.kind = YamlValue::Kind::List;
      list.items = {inner, inner};
      outer.add(key, list);
      outer.add("b", inner);
      const YamlValue again = parse_yaml(write_yaml(outer), "written");
      CHECK(again.keys == outer.keys);
      CHECK(again.find("b")->keys == inner.keys);
      CHECK(again.items[0].items[1].keys == inner.keys);
      CHECK(to_integer(again.items[0].items[1].items[0]) == 1);
    }
  }
}

TEST_CASE("a masked language model has its model fields under mblm_config") {
  const std::string masked =
      "  mask_token_id: 256\n"                                                                               // 3
      "  mblm_config:\n"                                                                                     // 4
      "    {num_tokens: 258, pad_token_id: 257, hidden_dims: [16, 24], seq_lens: [8, 4], num_layers: [1, 2],\n"  // 5
      "     block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true}}\n";                      // 6
  const std::string plain = small_config.substr(small_config.find("  num_tokens"), small_config.find("train:") - small_config.find("  num_tokens"));
  const std::string proba = with("batch_size: 2", "masking_proba: 0.15\n  batch_size: 2"), text = with(plain, masked, proba);
  const RunConfig config = parsed(text);
  REQUIRE(config.model.is_masked());
  CHECK(config.model.masking->mask_token_id == 256);
  CHECK(config.model.masking->mask_reduce_strat == "any");
  CHECK(config.model.num_layers == std::vector<std::int64_t>{1, 2});
  CHECK(config.model.blocks[1]->type() == "transformerEncoder");
  CHECK(config.train.masking_proba == 0.15);
  CHECK(parsed(text, {"params.mblm_config.num_layers=[3,3]", "params.mask_reduce_strat=all"}).model.masking->mask_reduce_strat == "all");

  const std::string written = to_yaml(config);
  CHECK(to_yaml(parsed(written)) == written);
  const ModelConfig model = parse_model_config(to_yaml(config.model), "m.yaml", BlockRegistry());
  CHECK(to_yaml(model) == to_yaml(config.model));
  CHECK(model.is_masked());
  CHECK_NOTHROW(check_model_config(model));

  const auto error = [&](const std::string& from, const std::string& to) {
    return error_text<ConfigError>([&] { parsed(with(from, to, text)); });
  };
  CHECK(error("mask_token_id: 256", "mask_token_id: 258") == "c.yaml:3: params.mask_token_id: expected an id below num_tokens = 258, got 258");
  CHECK(error("mask_token_id: 256", "mask_token_id: 257") == "c.yaml:3: params.mask_token_id: expected an id other than pad_token_id, got 257");
  CHECK(error("  mask_token_id: 256\n", "").ends_with("params.mask_token_id: expected an integer of at least 0, the field is missing"));
  CHECK(error("  mask_token_id: 256\n", "  mask_token_id: 256\n  num_tokens: 5\n").starts_with("c.yaml:4: params.num_tokens: no such field"));
  CHECK(error("mask_token_id: 256\n", "mask_token_id: 256\n  mask_reduce_strat: most\n").find("expected any or all, got") != std::string::npos);
  CHECK(error("pad_token_id: 257, ", "") == "c.yaml:4: params.mblm_config.pad_token_id: expected an integer of at least 0, the field is missing");
  CHECK(error("seq_lens: [8, 4]", "seq_lens: [8]") == "c.yaml:5: params.mblm_config.seq_lens: expected 2 entries, one per stage, got 1");
  CHECK(error("{attn_head_dims", "{block_type: transformer, attn_head_dims") ==
        "c.yaml:6: params.mblm_config.block.block_type: expected an encoder for a masked language model, such as transformerEncoder, got transformer");
  CHECK(error("  masking_proba: 0.15\n", "").ends_with(
      "train.masking_proba: expected a number in (0, 1] for a masked language model, the field is missing"));
  CHECK(error("masking_proba: 0.15", "masking_proba: 0").find("train.masking_proba: expected") != std::string::npos);
}

TEST_CASE("choice of the block type") {
  CHECK(model(mamba_fields).blocks[0]->type() == "mamba2");
  CHECK(model("{block_type: mamba1, d_state: 8, d_conv: 4, expand: 2, headdim: 8}").blocks[0]->type() == "mamba1");
  CHECK(model("{block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8}").blocks[0]->type() == "mamba2");
  CHECK(model("{block_type: null, attn_head_dims: 8, attn_num_heads: 1, attn_use_rot_embs: no}").blocks[0]->type() == "transformer");
  CHECK(model(std::string("[") + mamba_fields + "]").blocks[0]->type() == "mamba2");
  CHECK(model("{dropout: 0.5, pos_emb_type: null}", registry_with("lstm")).blocks[0]->type() == "lstm");
  CHECK(model(mamba_fields, registry_with("lstm")).blocks[0]->type() == "mamba2");

  CHECK(model_error("{block_type: lstm, dropout: 0}") == "m.yaml:6: block.block_type: expected mamba1, mamba2 or transformer, got \"lstm\"");
  CHECK(model_error("{block_type: 5}") == "m.yaml:6: block.block_type: expected mamba1, mamba2 or transformer, got 5");
  CHECK(model_error("{block_type: mamba2}") == 
        "m.yaml:6: block.d_state: expected an integer of at least 1, the field is missing\n"
        "m.yaml:6: block.d_conv: expected an integer of at least 1, the field is missing\n"
        "m.yaml:6: block.expand: expected an integer of at least 1, the field is missing\n"
        "m.yaml:6: block.headdim: expected an integer of at least 1, the field is missing");
  CHECK(model_error("{block_type: mamba2, d_state: 8, d_conv: 4, expand: 2, headdim: 8, attn_dropout: 0}") ==
        "m.yaml:6: block.attn_dropout: no such field");
  CHECK(model_error("{d_state: 8, d_conv: 4, expand: 2, head_dim: 8}") ==
        "m.yaml:6: block.head_dim: no such field in a mamba2, the closest block type, did you mean headdim?");
  CHECK(model_error("{blok_type: mamba1, d_state: 8, d_conv: 4, expand: 2, headdim: 8}") ==
        "m.yaml:6: block.blok_type: no such field in a mamba2, the closest block type, did you mean block_type?");
  CHECK(model_error("{attn_head_dims: 8, attn_num_heads: 1}") ==
        "m.yaml:6: block.attn_use_rot_embs: expected a value for a transformer, the closest block type, the field is missing");
  CHECK(model_error("{}") == "m.yaml:6: block: expected a block_type (mamba1, mamba2 or transformer), or all required fields of one");
  CHECK(model_error("{wheels: 4}") == "m.yaml:6: block: expected a block_type (mamba1, mamba2 or transformer), or all required fields of one");
  CHECK(model_error("null") == "m.yaml:6: block: expected a map, got null");
  CHECK(model_error("[5]") == "m.yaml:6: block[0]: expected a map, got 5");
  CHECK(model_error("[]") == "m.yaml:6: block: expected 1 entry, one per stage, got 0");
}

TEST_CASE("several block types that fit are an error, block_type decides") {
  BlockRegistry registry = registry_with("lstm");
  registry.add("gru", [] { return std::make_shared<LstmConfig>("gru"); });
  CHECK(model_error("{dropout: 0, lanes: 2}", registry) == "m.yaml:6: block: expected a block_type: the fields fit gru and lstm");
  CHECK_NOTHROW(model("{block_type: gru, dropout: 0, lanes: 2}", registry));
  registry.add(
      "rnn", [] { return std::make_shared<LstmConfig>("rnn"); }, BlockRegistry::ChosenBy::NameOnly);
  CHECK(model_error("{dropout: 0}", registry) == "m.yaml:6: block: expected a block_type: the fields fit gru and lstm");
  CHECK_THROWS_WITH_AS(registry.add("gru", nullptr), "blocks: type gru is already registered", ValueError);
  CHECK_THROWS_WITH_AS(registry.add<LstmConfig>(), "blocks: type lstm is already registered", ValueError);
  CHECK_THROWS_WITH_AS(registry.add("cell", [] { return std::make_shared<LstmConfig>(); }), "blocks: expected a block of type cell, got lstm",
                       ValueError);
  CHECK_THROWS_WITH_AS(registry.make("gro"), "blocks: expected one of gru, lstm, mamba1, mamba2, rnn, transformer, transformerEncoder, got gro", ValueError);
}

TEST_CASE("one map is the block of every stage") {
  const std::string text = "num_tokens: 256\npad_token_id: 0\nhidden_dims: [16, 24]\nseq_lens: [8, 4]\nnum_layers: [1, 1]\nblock:\n  " +
                           std::string("{d_state: 8, d_conv: 4, expand: 2, headdim: 16}\n");
  const ModelConfig config = parse_model_config(text, "m.yaml", BlockRegistry());
  CHECK(config.blocks.size() == 2);
  CHECK(error_text<ConfigError>([&] { parse_model_config(with("headdim: 16", "headdim: 32", text), "m.yaml", BlockRegistry()); }) ==
        "m.yaml:7: block.headdim: expected a divisor of expand * width = 2 * 24 = 48, got 32");
}

TEST_CASE("a model config, with or without the section params") {
  const TemporaryFolder folder;
  const std::filesystem::path whole = folder.write("whole.yaml", small_config), bare = folder.write("bare.yaml", model_text(mamba_fields));
  CHECK(read_model_config(whole, BlockRegistry(), {"params.num_tokens=300"}).num_tokens == 300);
  CHECK(read_model_config(whole, BlockRegistry(), {"num_tokens=300"}).num_tokens == 300);
  CHECK(read_model_config(bare, BlockRegistry(), {"params.num_tokens=300"}).num_tokens == 300);
  CHECK(read_model_config(bare, BlockRegistry(), {"num_tokens=300", "input_seq_len=5"}).num_tokens == 300);
  CHECK_NOTHROW(parse_model_config(small_config + "trian: 5\n", "c.yaml", BlockRegistry()));  // other sections are ignored
  CHECK(error_text<ConfigError>([&] { parse_model_config(with("num_tokens: 256", "num_tokens: 0"), "c.yaml", BlockRegistry()); }) ==
        "c.yaml:3: params.num_tokens: expected an integer of at least 1, got 0");
}

TEST_CASE("missing files and files that are not configurations") {
  const TemporaryFolder folder;
  const std::string none = (folder / "none.yaml").string();
  CHECK_THROWS_WITH_AS(read_run_config(none, BlockRegistry()), (none + ": cannot be read: No such file or directory").c_str(), FileError);
  CHECK_THROWS_WITH_AS(read_run_config(folder.path(), BlockRegistry()),
                       (folder.path().string() + ": expected a configuration file, found a folder").c_str(), FileError);
  const std::string large = folder.write("large", std::string((std::size_t{16} << 20) + 1, ' ')).string();
  CHECK_THROWS_WITH_AS(read_run_config(large, BlockRegistry()), (large + ": expected a configuration file, found more than 16777216 bytes").c_str(),
                       ConfigError);
  const std::string file = folder.write("c.yaml", with("batch_size: 2", "batch_size: 0")).string();
  CHECK_THROWS_WITH_AS(read_run_config(file, BlockRegistry()), (file + ":19: train.batch_size: expected an integer of at least 1, got 0").c_str(),
                       ConfigError);
}

TEST_CASE("field overrides of the command line") {
  CHECK(parsed(small_config, {"train.batch_size=8"}).train.batch_size == 8);
  CHECK(parsed(small_config, {"train.batch_size=8", "train.batch_size=9"}).train.batch_size == 9);
  CHECK(parsed(small_config, {"io.output_dir=a=b"}).io.output_dir == "a=b");
  CHECK(parsed(small_config, {"train.max_eval_steps=5"}).train.max_eval_steps == 5);
  CHECK(parsed(small_config, {"io.description="}).io.description == std::nullopt);
  CHECK(parsed(small_config, {"resume.checkpoint_file=x.pth"}).resume->checkpoint_file == "x.pth");
  CHECK(parsed(small_config, {"params.hidden_dims=[32, 32]"}).model.hidden_dims[0] == 32);
  CHECK(parsed(small_config, {"params.hidden_dims[0]=32"}).model.hidden_dims == std::vector<std::int64_t>{32, 24});
  CHECK(*parsed(small_config, {"io.dataset_args.mode=a"}).io.dataset_args == "mode: a\n");
  const RunConfig config = parsed(small_config, {"params.block[0].d_state=16"});
  CHECK(dynamic_cast<const Mamba2Config&>(*config.model.blocks[0]).d_state == 16);
  const RunConfig shared = parsed(small_config, {"params.block={d_state: 8, d_conv: 4, expand: 2, headdim: 8}", "params.block.d_state=32"});
  CHECK(dynamic_cast<const Mamba2Config&>(*shared.model.blocks[1]).d_state == 32);
  CHECK(parsed(with("batch_size: 2", "batch_size: wrong"), {"train.batch_size=3"}).train.batch_size == 3);

  CHECK(error_of({"train.batch_size=four"}) == "command line: train.batch_size: expected an integer of at least 1, got \"four\"");
  CHECK(error_of({"train.batch_sise=4"}) == "command line: train.batch_sise: no such field, did you mean batch_size?");
  CHECK(error_of({"trian.batch_size=4"}) == "command line: trian: no such field, did you mean train?");
  CHECK(error_of({"params.hidden_dims=[16, x]"}) == "command line: params.hidden_dims[1]: expected an integer of at least 1, got \"x\"");
  CHECK(error_of({"params.hidden_dims[1]=x"}) == "command line: params.hidden_dims[1]: expected an integer of at least 1, got \"x\"");
  CHECK(error_of({"resume.next_batch_index=4"}) == "command line: resume.checkpoint_file: expected text, the field is missing");
  CHECK(error_of({"train.batch_size"}) == "command line: expected FIELD=VALUE, got \"train.batch_size\"");
  for (const char* path : {"", ".", "train.", "train..batch_size", "[0]", "params.block[", "params.block[x]", "params.block[0", "params.block[0]x",
                           "train batch", "params.block[-1]", "params.block[99999999999999999999]"})
    CHECK(error_of({std::string(path) + "=4"}) ==
          "command line: " + std::string(path) + ": expected a field such as train.batch_size or params.block[0].d_state");
  CHECK(error_of({"learning_rate=3"}) == "command line: learning_rate: no such field, did you mean train.learning_rate?");
  CHECK(error_of({"train.hidden_dims=3"}) == "command line: train.hidden_dims: no such field, did you mean params.hidden_dims?");
  CHECK(error_of({"params.block.d_state=4"}) ==
        "command line: params.block.d_state: expected a map at params.block, found a list of 2, did you mean params.block[0].d_state?");
  CHECK(error_of({"params.block.1.attn_num_heads=4"}) ==
        "command line: params.block.1.attn_num_heads: expected a map at params.block, found a list of 2, did you mean params.block[1].attn_num_heads?");
  CHECK(error_of({"params.hidden_dims.1=4"}) ==
        "command line: params.hidden_dims.1: expected a map at params.hidden_dims, found a list of 2, did you mean params.hidden_dims[1]?");
  CHECK(error_of({"params.block[2].d_state=4"}) == "command line: params.block[2].d_state: expected an index below 2, got 2");
  CHECK(error_of({"train.batch_size.x=4"}) == "command line: train.batch_size.x: expected a map at train.batch_size, found 2");
  CHECK(error_of({"train[0]=4"}) == "command line: train[0]: expected a list at train, found a map");
  CHECK(error_of({"train.batch_size=[4"}) == "command line: train.batch_size: expected an integer of at least 1, got \"[4\"");
}

TEST_CASE("a configuration built in C++ is checked") {
  ModelConfig config = parsed(small_config).model;
  CHECK_NOTHROW(check_model_config(config));
  const auto error = [&] { return error_text<ConfigError>([&] { check_model_config(config, "mine"); }); };
  config.seq_lens = {8};
  CHECK(error() == "mine: seq_lens: expected 2 entries, one per stage, got 1");
  config.seq_lens = {8, -4};
  CHECK(error() == "mine: seq_lens[1]: expected an integer of at least 1, got -4");
  config.seq_lens = {8, 4};
  auto block = std::make_shared<Mamba2Config>();
  block->headdim = 0;
  config.blocks[1] = block;
  CHECK(error() == "mine: block[1].headdim: expected an integer of at least 1, got 0");
  block->headdim = 7;
  CHECK(error() == "mine: block[1].headdim: expected a divisor of expand * width = 2 * 24 = 48, got 7");
  block->headdim = 8;
  block->dropout = std::numeric_limits<double>::quiet_NaN();
  CHECK(error() == "mine: block[1].dropout: expected a number in [0, 1), got \"nan\"");
  config.blocks[1] = nullptr;
  CHECK(error() == "mine: block[1]: expected a block, got a null pointer");
  config.blocks.pop_back();
  CHECK(error() == "mine: block: expected 2 entries, one per stage, got 1");
}

}  // namespace mblm::testing
