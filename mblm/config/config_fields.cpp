#include "mblm/config/config_fields.h"

namespace mblm {
namespace {

// Models declare each layer's parameters one by one; more layers than this are a slip of the hand.
constexpr Range layer_range{.minimum = 1, .maximum = 65536};

}  // namespace

void declare_fields(Fields& f, ModelConfig& config) {
  f.required("num_tokens", config.num_tokens, positive);
  f.required("pad_token_id", config.pad_token_id, not_negative);
  f.required("hidden_dims", config.hidden_dims, positive);
  f.required("seq_lens", config.seq_lens, positive);
  f.required("num_layers", config.num_layers, layer_range);
  f.optional("train_checkpoint_chunks", config.train_checkpoint_chunks, positive);
  f.elsewhere("block", true, "a map or a list of maps");
}

void declare_fields(Fields& f, MaskingConfig& config) {
  f.required("mask_token_id", config.mask_token_id, not_negative);
  f.choice("mask_reduce_strat", config.mask_reduce_strat, {"any", "all"});
}

void declare_fields(Fields& f, TrainConfig& config) {
  f.required("target_elements", config.target_elements, positive);
  f.choice("target_elements_strategy", config.target_elements_strategy, {"batch", "sequence"}, true);
  f.required("batch_size", config.batch_size, positive);
  f.required("learning_rate", config.learning_rate, above_zero);
  f.required("gradient_accumulate_every", config.gradient_accumulate_every, positive);
  f.optional("gradient_clipping", config.gradient_clipping, above_zero);
  f.optional("warmup_steps_perc", config.warmup_steps_perc, share);
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
  f.required("name_model", config.name_model);
  f.required("output_dir", config.output_dir);
  f.required("dataset_id", config.dataset_id);
  f.required("dataset_dir", config.dataset_dir);
  f.optional("dataset_args", config.dataset_args);
  f.required("num_models_to_save", config.num_models_to_save, positive);
  f.required("validate_amount", config.validate_amount, not_negative);
  f.required("log_train_loss_amount", config.log_train_loss_amount, not_negative);
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

}  // namespace mblm
