#include "tests/tiny_run.h"

#include "engine/error.h"
#include "mblm/checkpoint.h"

namespace mblm::testing {

std::string tiny_config(const TemporaryFolder& folder) {
  return concat_text(
      "params:\n"
      "  input_seq_len: 32\n",
      tiny_model,
      "train:\n"
      "  target_elements: 64\n"
      "  target_elements_strategy: batch\n"
      "  batch_size: 4\n"
      "  learning_rate: 0.01\n"
      "  gradient_accumulate_every: 1\n"
      "  gradient_clipping: 1\n"
      "io:\n"
      "  name_model: tiny\n"
      "  output_dir: ", (folder / "runs").string(), "\n"
      "  dataset_dir: ", (folder / "text").string(), "\n"
      "  dataset_id: files\n"
      "  num_models_to_save: 1\n"
      "  validate_amount: 2\n"
      "  log_train_loss_amount: 4\n"
      "  run_id: '1'\n");
}

std::string prepare_tiny_run(const TemporaryFolder& folder) {
  folder.write("text/train/a.txt", words(4000));
  folder.write("text/validation/a.txt", words(300));
  folder.write("text/test/a.txt", words(300));
  folder.write("config.yaml", tiny_config(folder));
  return folder / "config.yaml";
}

std::string words(std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += concat_text("the ", text.size() % 7, " ships went out, and the sea was calm.\n");
  return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  require(at != std::string::npos, "replaced: expected '", from, "' in the text, there is none");
  return text.replace(at, from.size(), to);
}

void save_tiny_model(const std::string& path, const char* model) {
  Model tiny(parse_model_config(concat_text("params:\n", model), "tiny_run", BlockRegistry()));
  tiny.allocate();
  tiny.initialize(1);
  save_model(tiny, path);
}

}  // namespace mblm::testing
