#include "mblm/config/field_docs.h"

#include <algorithm>

#include "engine/error.h"

namespace mblm {
namespace {

std::vector<FieldDoc> all_docs() {
  return {
      {"params", "input_seq_len", "Bytes (ids) in one training sequence. May exceed the context unless stage 0 has fixed positions.", "1024"},
      {"params", "num_tokens", "Number of ids: 256 bytes, and one for each special id.", "257"},
      {"params", "pad_token_id", "Id of padding, which the loss ignores. An id above 255 (256 of 257) is not a byte, so every byte of the data counts in the loss.", "256"},
      {"params", "hidden_dims", "Width of each stage, from the most global to the most local one.", "[256, 128]"},
      {"params", "seq_lens", "Tokens of each stage. The last number is the bytes per patch of the stage above; the product is the context in bytes.", "[256, 4]"},
      {"params", "num_layers", "Layers of each stage.", "[3, 2]"},
      {"params", "train_checkpoint_chunks", "Per stage except the first: the backward pass recomputes the stage in so many chunks instead of storing it, which saves memory.", "[10]"},
      {"params", "block", "The block of all stages, or a list with one per stage. block_type names its type; without it the fields decide.", "{d_state: 64, d_conv: 4, expand: 2, headdim: 64}"},
      {"params", "mask_token_id", "Masked language model: id that replaces masked bytes.", "256"},
      {"params", "mask_reduce_strat", "Masked language model: attend to a token of a stage if any or all of its bytes are attended to.", "any"},
      {"params", "mblm_config", "Masked language model: the fields of the model above, from num_tokens to block.", "{num_tokens: 258, pad_token_id: 257, ...}"},

      {"block", "block_type", "transformer, transformerEncoder (masked language models), mamba1, mamba2, or a registered custom block. mamba1 must be named; the others are recognized by their fields.", "mamba2"},
      {"block", "attn_head_dims", "Width of an attention head.", "64"},
      {"block", "attn_num_heads", "Number of attention heads.", "8"},
      {"block", "attn_use_rot_embs", "Rotary positions in attention.", "true"},
      {"block", "attn_dropout", "Dropout of attention weights in training.", "0.1"},
      {"block", "ff_multiplier", "Width of the feed-forward layer, as a multiple of the stage's width.", "4"},
      {"block", "ff_dropout", "Dropout in the feed-forward layer in training.", "0.1"},
      {"block", "use_flash_attn", "Accepted for the package's configs without effect: the kernels decide.", "true"},
      {"block", "d_state", "Numbers of state per channel.", "128"},
      {"block", "d_conv", "Width of the convolution over time.", "4"},
      {"block", "expand", "Inner width, as a multiple of the stage's width.", "2"},
      {"block", "headdim", "Channels of a Mamba-2 head; divides the inner width. Mamba-1 ignores it.", "64"},
      {"block", "dropout", "Dropout after each layer in training.", "0.1"},
      {"block", "pos_emb_type", "Positions added to the stage's input: fixed (learned, and the context is then a limit for stage 0), rope (rotates channels), or null.", "fixed"},

      {"train", "target_elements", "Trains on at least so many elements, counted over all workers. A limit of the run, as max_steps and epochs: at least one is needed, the first one reached ends the run, and the learning rate's schedule spans it.", "6_000_000"},
      {"train", "target_elements_strategy", "What an element is: batch counts sequences, sequence counts bytes.", "sequence"},
      {"train", "max_steps", "Limit of the run in optimizer steps.", "10_000"},
      {"train", "epochs", "Limit of the run in passes over the training data.", "3"},
      {"train", "batch_size", "Sequences per worker and micro-batch. More need more memory.", "4"},
      {"train", "learning_rate", "The highest learning rate, reached after warm-up.", "0.001"},
      {"train", "gradient_accumulate_every", "Micro-batches per optimizer step: a step sees batch_size times this many sequences, in the memory of batch_size.", "8"},
      {"train", "gradient_clipping", "Scales the gradient down to this global L2 norm where it is larger.", "1"},
      {"train", "warmup_steps_perc", "Share of the optimizer steps that is linear warm-up, from a tenth of the learning rate.", "0.05"},
      {"train", "schedule", "The learning rate after warm-up: cosine or linear decay to min_learning_rate, or constant.", "linear"},
      {"train", "min_learning_rate", "The learning rate at the end of cosine and linear.", "0.0001"},
      {"train", "weight_decay", "Decoupled weight decay (AdamW): a step multiplies weights by 1 - learning rate * weight_decay. Only matrices: not biases, gains, convolutions and A_log.", "0.1"},
      {"train", "betas", "Adam's decay rates of the gradient's mean and of its square.", "[0.9, 0.99]"},
      {"train", "eps", "Adam's term beside the square root.", "1.0e-6"},
      {"train", "shuffle_train", "Shuffles the training sequences, in another order in each epoch.", "true"},
      {"train", "shuffle_eval", "Shuffles the validation sequences; with max_eval_steps each validation then sees others.", "true"},
      {"train", "max_eval_steps", "Most batches of a validation or test.", "100"},
      {"train", "masking_proba", "Masked language model: probability of masking a byte. Required there, not allowed elsewhere.", "0.15"},
      {"train", "seed", "Seed of parameters, dropout, shuffling and masking. The same seed, config and machine give the same bits.", "1"},
      {"train", "precision", "Precision of products and activations; weights and optimizer stay float32. null is float32 on a CPU, bfloat16 on a GPU.", "bfloat16"},
      {"train", "device", "auto (a GPU if there is one), cpu, cuda or cuda:N.", "cuda:1"},
      {"train", "save_state_every", "Seconds between two full states, from which a run resumes; 0 saves them only at the end and when the run is stopped.", "60"},
      {"train", "on_nonfinite", "What happens after a loss or gradient that is not finite: stop ends the run, skip omits the step.", "skip"},
      {"train", "cuda_graphs", "On a GPU, replays a step as a CUDA graph where shapes repeat; the results have the same bits.", "false"},

      {"io", "name_model", "First part of the name of the run's folder. Default: the stem of the config's file name.", "my_model"},
      {"io", "output_dir", "Folder for runs. The run's folder is output_dir/name_model_RUNID.", "runs"},
      {"io", "dataset_id", "Kind of data: files (any bytes), pg19 (folders train/, validation/, test/), pg19masked (the same, masked), clevr, or a registered one.", "files"},
      {"io", "dataset_dir", "The data. For files: a file, a folder with train/, validation/ (or valid/, val/) and optionally test/, or any other folder, whose bytes are split in file order: 90 % training, 5 % test, 5 % validation.", "my_text"},
      {"io", "dataset_args", "Arguments of the data set: for clevr target_mode, qiqa_loss_mask and others.", "null"},
      {"io", "num_models_to_save", "Number of best checkpoints to keep.", "3"},
      {"io", "validate_amount", "Number of validations, evenly spread over the run; 0 for none.", "20"},
      {"io", "log_train_loss_amount", "Number of training losses in loss.csv and train.log, evenly spread over the run.", "500"},
      {"io", "enabled_loss_log_for_gpus", "Workers with rows in loss.csv.", "[0, 1]"},
      {"io", "description", "A text for people, kept in the run's config.yaml.", "first try"},
      {"io", "tensorboard", "Writes TensorBoard event files to the folder tensorboard of the run: `tensorboard --logdir runs`.", "true"},
      {"io", "run_id", "Last part of the name of the run's folder. null is the time of the start; JOB_ID in the environment wins.", "'1'"},

      {"resume", "checkpoint_file", "Start from the weights in this .safetensors or .pth file: fine-tuning. A stopped run continues with mblm resume instead.", "model.safetensors"},
      {"resume", "next_epoch_index", "Epoch of the data to start in.", "0"},
      {"resume", "next_batch_index", "Batch of that epoch to start at.", "0"},
      {"resume", "migrate_embeddings", "The checkpoint may have fewer ids than num_tokens: new ids keep their initial values.", "true"},
      {"resume", "rename_modules", "Renames tensors of the checkpoint as the embedding program says.", "true"},
      {"resume", "resumed_from", "Written by a run: the checkpoint that it started from.", "null"},
  };
}

}  // namespace

const std::vector<FieldDoc>& field_docs() {
  static const std::vector<FieldDoc> docs = all_docs();
  return docs;
}

const FieldDoc& doc_of_field(const std::string& section, const std::string& name) {
  const std::vector<FieldDoc>& docs = field_docs();
  const auto found = std::find_if(docs.begin(), docs.end(), [&](const FieldDoc& doc) { return doc.section == section && doc.name == name; });
  require(found != docs.end(), section, ".", name, ": expected an entry in field_docs(), there is none");
  return *found;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    const bool fits = !lines.empty() && lines.back().size() + 1 + word.size() <= width;
    if (fits) lines.back() += concat_text(' ', word);
    else lines.emplace_back(word);
  }
  return lines;
}

}  // namespace mblm
