// Configuration files: YAML with the fields and meanings of the Python package. An error in a file is a ConfigError that names
// the file, the line and the field.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mblm/config/block_config.h"

namespace mblm {

// Fields of a masked language model, which predicts the bytes at the positions of the mask token.
struct MaskingConfig {
  std::int64_t mask_token_id = 0;
  std::string mask_reduce_strat = "any";  // any or all: attend to a stage's token if any or all of its bytes are attended to
};

// The model's fields. Stage 0 is the most global one.
struct ModelConfig {
  std::int64_t num_tokens = 256, pad_token_id = 0;
  std::vector<std::int64_t> hidden_dims, seq_lens, num_layers;
  std::optional<std::vector<std::int64_t>> train_checkpoint_chunks;
  std::vector<std::shared_ptr<const BlockConfig>> blocks;  // one per stage
  std::optional<MaskingConfig> masking = {};               // unset: a causal model, which predicts each byte from the bytes before it

  bool is_masked() const { return masking.has_value(); }
  int stages() const { return static_cast<int>(seq_lens.size()); }
  std::int64_t patch_bytes(int stage) const;  // bytes per token of the stage
  std::int64_t context() const;               // in bytes, the product of seq_lens
  bool fixed_context() const;                 // stage 0 has fixed positional embeddings: no input may exceed the context
};

struct TrainConfig {
  // The length of the run; the first limit that is reached ends it. At least one must be set.
  std::optional<std::int64_t> target_elements;  // elements, see target_elements_strategy
  std::optional<std::int64_t> max_steps;        // optimizer steps
  std::optional<std::int64_t> epochs;           // passes over the training data
  std::string target_elements_strategy = "batch";  // or sequence
  std::int64_t batch_size = 1;
  double learning_rate = 1e-3;
  std::int64_t gradient_accumulate_every = 1;
  std::optional<double> gradient_clipping;
  double warmup_steps_perc = 0.1;
  bool shuffle_train = false, shuffle_eval = false;
  std::optional<std::int64_t> max_eval_steps;
  std::optional<double> masking_proba;  // required for masked language models, not allowed for others
  // Not in the Python package:
  std::string schedule = "cosine";  // or linear, constant: the learning rate after warm-up
  double min_learning_rate = 0;     // at the end of the schedule
  double weight_decay = 0;          // AdamW, of matrices only
  std::vector<double> betas{0.9, 0.95};
  double eps = 1e-8;
  std::int64_t seed = 0;
  std::optional<std::string> precision;  // float32 or bfloat16; unset: float32 on a CPU, bfloat16 on a GPU
  std::string device = "auto";
  double save_state_every = 600;      // seconds
  std::string on_nonfinite = "stop";  // or skip
  bool cuda_graphs = true;
};

struct IoConfig {
  std::string name_model, output_dir = "runs", dataset_id, dataset_dir;
  YamlText dataset_args;  // fields of the data set, see read_fields; null if none
  std::int64_t num_models_to_save = 1, validate_amount = 10, log_train_loss_amount = 1000;
  std::vector<std::int64_t> enabled_loss_log_for_gpus{0};
  std::optional<std::string> description;
  bool tensorboard = false;
  std::optional<std::string> run_id;
};

struct ResumeConfig {
  std::string checkpoint_file;
  std::int64_t next_epoch_index = 0, next_batch_index = 0;
  bool migrate_embeddings = false, rename_modules = false;
  std::optional<std::string> resumed_from;
};

struct RunConfig {
  ModelConfig model;
  std::int64_t input_seq_len = 0;
  TrainConfig train;
  IoConfig io;
  std::optional<ResumeConfig> resume;
};

// `FIELD=VALUE` arguments of the command line, a dotted path and YAML text: `train.batch_size=8`, `params.num_layers=[1,1]`.
// Each replaces or adds a field before the checks.
using Overrides = std::vector<std::string>;

// Reads a training config. The fields that it omits have their defaults: io.name_model is the stem of the file's name, and without
// `params` the model is model_yaml(ModelSize::Small). Throws FileError if the file cannot be read, ConfigError with one line per wrong field.
RunConfig read_run_config(const std::filesystem::path& path, const BlockRegistry& registry, const Overrides& overrides = {});

// Reads the model's fields only, under `params:` or at the top level. Ignores other sections and overrides of them. Overrides of
// the model may omit `params.`.
ModelConfig read_model_config(const std::filesystem::path& path, const BlockRegistry& registry, const Overrides& overrides = {});
// The same from YAML text. Errors name `origin` as the file.
ModelConfig parse_model_config(const std::string& yaml, const std::string& origin, const BlockRegistry& registry);
RunConfig parse_run_config(const std::string& yaml, const std::string& origin, const BlockRegistry& registry, const Overrides& overrides = {});

// The section `params` of a suggested model, as YAML: a Mamba-2 stage above a Transformer stage, with ids for bytes and for padding.
// 2, 21 or 360 million parameters; context of 1024, 4096 or 8192 bytes. A config without `params` has the small model.
enum class ModelSize { Small, Medium, Large };
std::string_view model_yaml(ModelSize size);

// Number of parameters of a model, computed from its sizes. Exact up to 2^53, but without custom blocks that do not report theirs.
double parameter_count(const ModelConfig& config);

// Checks a config built in C++. Throws ConfigError.
void check_model_config(const ModelConfig& config, const std::string& origin = "config");
void check_run_config(const RunConfig& config, const std::string& origin = "config");

// Writes YAML that reads back as the same config. `to_yaml(RunConfig)` writes every field, including defaults.
std::string to_yaml(const ModelConfig& config);
std::string to_yaml(const RunConfig& config);

}  // namespace mblm
