// Trains a model with a custom stage block on a custom data set: sums such as `7+5=12`, with the loss on the answers.
#include <signal.h>

#include <atomic>
#include <iostream>
#include <thread>

#include "lstm_block.h"

namespace {

using namespace mblm;

// Sequence `index` of an epoch is text like "7+5=12\n3+3=06\n", cut at the configured length. It has no state between calls:
// the numbers are a function of (seed, split, epoch, index).
class Sums final : public Dataset {
 public:
  explicit Sums(const DatasetRequest& request) : request_(request) {
    if (request.arguments == nullptr) return;
    read_fields(*request.arguments, "sums", "io.dataset_args", [this](Fields& f) { f.optional("largest", largest_, {.minimum = 1, .maximum = 49}); });
  }

  std::int64_t size(std::int64_t) const override { return request_.split == Split::Train ? 10'000 : 100; }
  std::int64_t length() const override { return request_.length; }
  SequenceParts parts() const override { return {.loss_mask = true}; }

  void read(std::int64_t epoch, std::int64_t index, const Sequence& out) const override {
    const RandomKey key{request_.seed, site_of(name_of(request_.split)), static_cast<std::uint32_t>(epoch)};
    const auto number = [&](std::size_t place) { return random_word(key, static_cast<std::uint64_t>(index) * out.ids.size() + place) % (largest_ + 1); };
    std::size_t at = 0;
    const auto put = [&](const std::string& text, float weight) {
      for (std::size_t i = 0; i < text.size() && at < out.ids.size(); ++i, ++at) {
        out.ids[at] = static_cast<unsigned char>(text[i]);
        out.loss_mask[at] = weight;
      }
    };
    while (at < out.ids.size()) {
      const std::uint64_t a = number(at), b = number(at + 1), sum = a + b;
      put(std::to_string(a) + "+" + std::to_string(b) + "=", 0);
      put(std::to_string(sum / 10) + std::to_string(sum % 10), 1);
      put("\n", 0);
    }
  }

 private:
  const DatasetRequest request_;
  std::int64_t largest_ = 9;
};

RunConfig config_for(const std::string& output_dir) {
  const auto global = std::make_shared<lstm::LstmConfig>();
  const auto local = std::make_shared<TransformerConfig>();
  local->attn_head_dims = 16;
  local->attn_num_heads = 4;
  local->attn_use_rot_embs = true;
  local->pos_emb_type = PositionKind::Fixed;

  RunConfig config;
  config.model = {.num_tokens = 257,
                  .pad_token_id = 256,
                  .hidden_dims = {64, 64},
                  .seq_lens = {8, 7},
                  .num_layers = {1, 2},
                  .train_checkpoint_chunks = {},
                  .blocks = {global, local}};
  config.input_seq_len = 56;
  config.train.target_elements = 3200;  // sequences
  config.train.batch_size = 16;
  config.train.learning_rate = 0.005;
  config.train.gradient_accumulate_every = 1;
  config.train.gradient_clipping = 1;
  config.train.shuffle_train = true;
  config.io.dataset_id = "sums";  // registered in main
  config.io.dataset_dir = ".";    // path for data sets that read files
  config.io.dataset_args = std::make_shared<std::string>("largest: 9");
  config.io.name_model = "sums";
  config.io.output_dir = output_dir;
  config.io.num_models_to_save = 1;
  config.io.validate_amount = 4;
  config.io.log_train_loss_amount = 20;
  return config;
}

std::atomic<int> stop_signal = 0;

// SIGINT and SIGTERM request a stop. A separate thread waits for them: a handler must not interrupt a thread that computes.
void wait_for_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int signal = 0;
    sigwait(&signals, &signal);
    stop_signal = signal;
  }).detach();
}

}  // namespace

int main(int count, char** arguments) {
  DatasetRegistry datasets;  // the built-in data sets
  datasets.add("sums", [](const DatasetRequest& request) { return std::make_unique<Sums>(request); });

  TrainerOptions options;
  options.callbacks.on_progress = [](const TrainingProgress& progress) {
    std::cerr << "step " << progress.step << ", loss " << progress.loss << '\n';
  };
  options.callbacks.should_stop = [] { return stop_signal != 0; };
  wait_for_signals();
  Trainer trainer(config_for(count > 1 ? arguments[1] : "runs"), datasets, options);
  const TrainingResult result = trainer.run();
  if (result.stopped) return 128 + stop_signal;
  std::cout << result.folder.string() << ": validation loss " << *result.validation_loss << '\n';

  const std::string prompt = "2+2=04\n3+4=";
  const std::vector<std::int64_t> ids = ids_of(prompt);
  std::cout << prompt;
  for (const std::int64_t id : generate(trainer.model(), ids, 2, {})) std::cout << static_cast<char>(id);
  std::cout << '\n';
}
