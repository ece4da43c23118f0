#include "mblm/config/config_fields.h"

#include <algorithm>
#include <filesystem>

#include "engine/device_name.h"
#include "mblm/config/field_rules.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

// Models declare each layer's parameters one by one. More layers than this are a typing error.
constexpr Range layer_range{.minimum = 1, .maximum = 65536};
constexpr Range epoch_range{.minimum = 1, .maximum = 1e6};  // a run counts the batches of each epoch

}  // namespace

void declare_fields(Fields& f, ModelConfig& config) {
  f.required("num_tokens", config.num_tokens, positive);
  f.required("pad_token_id", config.pad_token_id, not_negative);
  f.required("hidden_dims", config.hidden_dims, positive);
  f.required("seq_lens", config.seq_lens, positive);
  f.required("num_layers", config.num_layers, layer_range);
  f.optional("train_checkpoint_chunks", config.train_checkpoint_chunks, positive);
  f.external("block", true, "a map or a list of maps");
}

void declare_fields(Fields& f, MaskingConfig& config) {
  f.required("mask_token_id", config.mask_token_id, not_negative);
  f.choice("mask_reduce_strat", config.mask_reduce_strat, {"any", "all"});
}

void declare_fields(Fields& f, TrainConfig& config) {
  f.optional("target_elements", config.target_elements, positive);
  f.choice("target_elements_strategy", config.target_elements_strategy, {"batch", "sequence"});
  f.optional("max_steps", config.max_steps, positive);
  f.optional("epochs", config.epochs, epoch_range);
  f.optional("batch_size", config.batch_size, positive);
  f.optional("learning_rate", config.learning_rate, above_zero);
  f.optional("gradient_accumulate_every", config.gradient_accumulate_every, positive);
  f.optional("gradient_clipping", config.gradient_clipping, above_zero);
  f.optional("warmup_steps_perc", config.warmup_steps_perc, share);
  f.choice("schedule", config.schedule, {"cosine", "linear", "constant"});
  f.optional("min_learning_rate", config.min_learning_rate, not_negative);
  f.optional("weight_decay", config.weight_decay, not_negative);
  f.optional("betas", config.betas, probability);
  f.optional("eps", config.eps, above_zero);
  f.optional("shuffle_train", config.shuffle_train);
  f.optional("shuffle_eval", config.shuffle_eval);
  f.optional("max_eval_steps", config.max_eval_steps, positive);
  f.optional("masking_proba", config.masking_proba, Range{.minimum = 0, .maximum = 1, .open_minimum = true});
  f.optional("seed", config.seed, not_negative);
  f.choice("precision", config.precision, {"float32", "bfloat16"});
  f.optional("device", config.device);
  f.optional("save_state_every", config.save_state_every, not_negative);
  f.choice("on_nonfinite", config.on_nonfinite, {"stop", "skip"});
  f.optional("cuda_graphs", config.cuda_graphs);
}

void declare_fields(Fields& f, IoConfig& config) {
  f.optional("name_model", config.name_model);
  f.optional("output_dir", config.output_dir);
  f.required("dataset_id", config.dataset_id);
  f.required("dataset_dir", config.dataset_dir);
  f.optional("dataset_args", config.dataset_args);
  f.optional("num_models_to_save", config.num_models_to_save, positive);
  f.optional("validate_amount", config.validate_amount, not_negative);
  f.optional("log_train_loss_amount", config.log_train_loss_amount, not_negative);
  f.optional("enabled_loss_log_for_gpus", config.enabled_loss_log_for_gpus, not_negative);
  f.optional("description", config.description);
  f.optional("tensorboard", config.tensorboard);
  f.optional("run_id", config.run_id);
}

void declare_fields(Fields& f, ResumeConfig& config) {
  f.required("checkpoint_file", config.checkpoint_file);
  f.optional("next_epoch_index", config.next_epoch_index, not_negative);
  f.optional("next_batch_index", config.next_batch_index, not_negative);
  f.optional("migrate_embeddings", config.migrate_embeddings);
  f.optional("rename_modules", config.rename_modules);
  f.optional("resumed_from", config.resumed_from);
}

void visit_fields(const BlockConfig& block, Fields& f) {
  std::string type(block.type());
  f.required("block_type", type);
  const_cast<BlockConfig&>(block).fields(f);
}

namespace {

constexpr double size_bound = 0x1p63;       // limit of a size in bytes
constexpr double bytes_per_parameter = 16;  // value, gradient and Adam's two moments, float32 each

// Checks the values of a config built in C++ against their declarations.
class FieldChecker final : public Fields {
 public:
  FieldChecker(std::string origin, std::string path, Problems& problems)
      : origin_(std::move(origin)), path_(std::move(path)), problems_(&problems) {}
  void report(const std::string& name, const std::string& message) const override { problems_->add(location_of(name) + ": " + message); }

 private:
  std::string location_of(const std::string& name) const override {
    const std::string field = path_ + (path_.empty() || name.empty() ? "" : ".") + name;
    return origin_ + (field.empty() ? "" : ": " + field);
  }
  void visit(const Field& field) override {
    problems_->attempt([&] { check_value(field, *this); });
  }
  std::string origin_, path_;
  Problems* problems_;
};

std::string text_of(const std::vector<std::int64_t>& sizes) {
  std::string text;
  for (const std::int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

void check_length(const Fields& params, const char* name, std::size_t length, std::size_t stages) {
  if (length != stages) params.report(name, concat_text("expected ", stages, stages == 1 ? " entry" : " entries", ", one per stage, got ", length));
}

// Returns whether products of sizes do not overflow.
bool check_sizes(const ModelConfig& model, const Fields& params) {
  double context = 1;
  for (const std::int64_t length : model.seq_lens) context *= static_cast<double>(length);
  const bool fits = context < size_bound;
  if (!fits) params.report("seq_lens", "expected a product (the context in bytes) below 2^63, got " + text_of(model.seq_lens));
  const double parameters = parameter_count(model);
  if (parameters * bytes_per_parameter < size_bound) return fits;
  params.report("hidden_dims", concat_text("expected a model with less than 2^63 bytes of parameters and optimizer state, got about ", parameters,
                                           " parameters: hidden_dims ", text_of(model.hidden_dims), ", num_layers ", text_of(model.num_layers),
                                           ", seq_lens ", text_of(model.seq_lens), ", num_tokens ", model.num_tokens));
  return false;
}

// Checks the size of the largest tensors of a step (logits or a stage's vectors for each byte of the batch) and the number of bytes
// of a step.
void check_batch(const RunConfig& config, const Fields& train) {
  const double bytes = static_cast<double>(config.train.batch_size) * static_cast<double>(config.input_seq_len);
  const double widest = static_cast<double>(std::max(config.model.num_tokens, *std::ranges::max_element(config.model.hidden_dims)));
  if (!(bytes * widest * sizeof(double) < size_bound))
    return train.report("batch_size", concat_text("expected batch_size * params.input_seq_len vectors below 2^63 bytes, got ", config.train.batch_size, " * ",
                                         config.input_seq_len, " vectors of ", widest));
  if (!(bytes * static_cast<double>(config.train.gradient_accumulate_every) < size_bound))
    train.report("gradient_accumulate_every", concat_text("expected a step of less than 2^63 bytes, got ", config.train.gradient_accumulate_every,
                                                        " micro-batches of ", config.train.batch_size, " * ", config.input_seq_len));
}

}  // namespace

void check_lengths(const ModelConfig& model, const Fields& params) {
  const std::size_t stages = model.hidden_dims.size();
  if (stages == 0) return params.report("hidden_dims", "expected at least one stage, got an empty list");
  check_length(params, "seq_lens", model.seq_lens.size(), stages);
  check_length(params, "num_layers", model.num_layers.size(), stages);
  if (model.train_checkpoint_chunks && model.train_checkpoint_chunks->size() != stages - 1)
    params.report("train_checkpoint_chunks", concat_text("expected ", stages - 1, stages == 2 ? " entry" : " entries",
                                                       ", one per stage except the first, got ", model.train_checkpoint_chunks->size()));
}

void check_model(const ModelConfig& model, const Fields& params, const std::vector<const Fields*>& blocks, Problems& problems) {
  if (model.pad_token_id >= model.num_tokens)
    params.report("pad_token_id", concat_text("expected an id below num_tokens = ", model.num_tokens, ", got ", model.pad_token_id));
  if (!check_sizes(model, params)) return;
  for (std::size_t n = 0; n < blocks.size(); ++n) {
    const BlockConfig& block = *model.blocks[n];
    if (block.is_encoder() && !model.is_masked())
      blocks[n]->report("block_type", concat_text("expected a causal block, got ", block.type(),
                                                  ", which is for masked language models (mask_token_id, mblm_config)"));
    if (!block.is_encoder() && model.is_masked())
      blocks[n]->report("block_type", concat_text("expected an encoder for a masked language model, such as transformerEncoder, got ", block.type()));
    problems.attempt([&] { block.check(*blocks[n], model.hidden_dims[n]); });
  }
}

void check_masking(const ModelConfig& model, const Fields& params) {
  const std::int64_t id = model.masking->mask_token_id;
  if (id >= model.num_tokens) params.report("mask_token_id", concat_text("expected an id below num_tokens = ", model.num_tokens, ", got ", id));
  if (id == model.pad_token_id) params.report("mask_token_id", concat_text("expected an id other than pad_token_id, got ", id));
}

void check_with_model(const RunConfig& config, const Fields& params, const Fields& train) {
  if (config.model.fixed_context() && config.input_seq_len > config.model.context())
    params.report("input_seq_len", concat_text("expected at most the context of ", config.model.context(),
                                               " bytes (stage 0 has fixed positional embeddings), got ", config.input_seq_len));
  check_batch(config, train);
  if (config.model.is_masked() && !config.train.masking_proba)
    train.report("masking_proba", "expected a number in (0, 1] for a masked language model, the field is missing");
  if (!config.model.is_masked() && config.train.masking_proba)
    train.report("masking_proba", "expected no value, the model is not a masked language model (mask_token_id, mblm_config)");
}

void check_train(const TrainConfig& config, const Fields& train) {
  if (!config.target_elements && !config.max_steps && !config.epochs)
    train.report("target_elements", "expected a length of the run (target_elements, max_steps or epochs), the field is missing");
  if (config.min_learning_rate > config.learning_rate)
    train.report("min_learning_rate", concat_text("expected at most learning_rate = ", config.learning_rate, ", got ", config.min_learning_rate));
  if (config.betas.size() != 2) train.report("betas", concat_text("expected 2 entries, got ", config.betas.size()));
  if (!parse_device(config.device)) train.report("device", concat_text("expected ", device_forms, ", got ", in_quotes(config.device)));
}

void check_io(const IoConfig& config, const Fields& io) {
  const std::string& name = config.name_model;
  if (name.empty()) io.report("name_model", "expected a name, got \"\"");
  const std::filesystem::path path(name);
  if (name.starts_with('/') || std::find(path.begin(), path.end(), "..") != path.end() || (!name.empty() && !path.has_filename()))
    io.report("name_model", "expected a relative path below io.output_dir, got " + in_quotes(name));
  if (config.output_dir.empty()) io.report("output_dir", "expected a folder, got \"\"");
}

namespace {

// `path`: the section with the model's fields.
void check_model_values(const ModelConfig& config, const std::string& origin, const std::string& path, Problems& problems) {
  const FieldChecker params(origin, path, problems);
  FieldChecker fields = params;
  const std::size_t before = problems.count();
  ModelConfig values = config;
  declare_fields(fields, values);
  if (values.masking) declare_fields(fields, *values.masking);
  check_lengths(config, params);
  check_length(params, "block", config.blocks.size(), config.hidden_dims.size());
  std::vector<FieldChecker> checkers;
  for (std::size_t n = 0; n < config.blocks.size(); ++n) {
    checkers.emplace_back(origin, concat_text(path, path.empty() ? "" : ".", "block[", n, "]"), problems);
    if (config.blocks[n] == nullptr) checkers.back().report("", "expected a block, got a null pointer");
    else visit_fields(*config.blocks[n], checkers.back());
  }
  if (problems.count() > before) return;
  std::vector<const Fields*> blocks;
  for (const FieldChecker& checker : checkers) blocks.push_back(&checker);
  check_model(config, params, blocks, problems);
  if (config.masking) check_masking(config, params);
}

}  // namespace

void check_model_config(const ModelConfig& config, const std::string& origin) {
  Problems problems;
  check_model_values(config, origin, "", problems);
  problems.throw_if_any();
}

void check_run_config(const RunConfig& config, const std::string& origin) {
  Problems problems;
  RunConfig values = config;
  FieldChecker params(origin, "params", problems), train(origin, "train", problems), io(origin, "io", problems), resume(origin, "resume", problems);
  params.required("input_seq_len", values.input_seq_len, positive);
  check_model_values(config.model, origin, "params", problems);
  declare_fields(train, values.train);
  if (problems.count() == 0) check_with_model(config, params, train);
  check_train(config.train, train);
  declare_fields(io, values.io);
  check_io(config.io, io);
  if (values.resume) declare_fields(resume, *values.resume);
  problems.throw_if_any();
}

}  // namespace mblm
