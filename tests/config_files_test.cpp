// Every configuration file of the repository is read, written and read again. Damaged files are a ConfigError.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "examples/lstm_block.h"
#include "mblm/config/config.h"
#include "tests/config_text.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::filesystem::path root = MBLM_SOURCE_ROOT;

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  REQUIRE_FALSE(files.empty());
  return files;
}

std::vector<std::filesystem::path> run_files() {
  std::vector<std::filesystem::path> files = files_in(root / "configs");
  for (const auto& file : files_in(root / "tests/golden/configs")) files.push_back(file);
  return files;
}

// True for a valid configuration, false for a ConfigError. Any other exception fails the test.
bool is_configuration(const std::string& text) {
  try {
    parse_run_config(text, "c.yaml", BlockRegistry());
    return true;
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    for (std::size_t begin = 0; begin < message.size(); begin = std::min(message.find('\n', begin), message.size() - 1) + 1)
      CHECK(message.compare(begin, 7, "c.yaml:") == 0);
    return false;
  }
}

struct Published {
  const char *name, *ours;
  double millions;  // parameters, in millions
};
constexpr Published published[] = {
    {"pg19_30bb_360m_1d_t", "pg19_1d_t", 361.45},        {"pg19_30bb_360m_2d_ss", "pg19_2d_ss", 360.85},
    {"pg19_30bb_360m_2d_st", "pg19_2d_st", 358.90},      {"pg19_200bb_360m_3d_stt", "pg19_3d_stt", 362.87},
    {"clevr_7mi_360m_1d_s_ft", "clevr_1d_s_ft", 356.98},
};

// The built-in blocks, and the custom block of a golden case.
BlockRegistry golden_blocks() {
  BlockRegistry blocks;
  blocks.add<lstm::LstmConfig>();
  return blocks;
}

// The golden cases of masked language models contain only the fields under mblm_config.
ModelConfig golden_model(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  if (text.find("transformerEncoder") == std::string::npos) return read_model_config(file, golden_blocks());
  std::string inner = "\n" + text.substr(0, text.find_last_not_of('\n') + 1);
  for (std::size_t at = inner.find('\n'); at != std::string::npos; at = inner.find('\n', at + 1)) inner.insert(at + 1, "  ");
  return parse_model_config("mask_token_id: 1\nmblm_config:" + inner + "\n", file.string(), golden_blocks());
}

}  // namespace

TEST_CASE("run configurations survive reading and writing") {
  for (const std::filesystem::path& file : run_files()) {
    CAPTURE(file.string());
    const RunConfig config = read_run_config(file, BlockRegistry());
    const std::string written = to_yaml(config);
    const RunConfig again = parse_run_config(written, "written", BlockRegistry());
    CHECK(to_yaml(again) == written);
    CHECK(to_yaml(again.model) == to_yaml(config.model));
    CHECK((again.io.dataset_args == nullptr) == (config.io.dataset_args == nullptr));
    if (config.io.dataset_args) CHECK(*again.io.dataset_args == *config.io.dataset_args);
    CHECK(again.io.description == config.io.description);
    CHECK(again.train.learning_rate == config.train.learning_rate);
    CHECK(again.resume.has_value() == config.resume.has_value());
  }
}

TEST_CASE("model configurations survive reading and writing") {
  for (const std::filesystem::path& file : files_in(root / "tests/golden/cases")) {
    if (file.parent_path().filename() == "custom_lstm") continue;  // its block is defined in examples/
    CAPTURE(file.string());
    const ModelConfig config = golden_model(file);
    const ModelConfig again = parse_model_config(to_yaml(config), "written", golden_blocks());
    CHECK(to_yaml(again) == to_yaml(config));
    CHECK(again.hidden_dims == config.hidden_dims);
    CHECK(again.train_checkpoint_chunks == config.train_checkpoint_chunks);
    for (std::size_t n = 0; n < config.blocks.size(); ++n) CHECK(again.blocks[n]->type() == config.blocks[n]->type());
  }
}

TEST_CASE("values that need care in writing are read back") {
  RunConfig config = parsed(small_config);
  config.train.learning_rate = 0.1 + 0.2;
  config.train.save_state_every = 1e22;
  config.train.warmup_steps_perc = 5e-324;
  for (const char* text :
       {"",     " ", "null", "~",  "true", "no", "5",   "1e3", ".5",          "-",    "- a", "a: b",       "a #b", "#", "'", "\"", "a\nb\n", "\t",
        "\x01", "%", "@a",   "&a", "*a",   "!a", "[a]", "{a",  "caf\xC3\xA9", "a\\b", "yes", "2024-01-01", "a ",   "?", "|", ">",  "=",      "<<"}) {
    CAPTURE(text);
    config.io.description = text;
    config.io.dataset_id = text;
    const RunConfig again = parsed(to_yaml(config));
    CHECK(again.io.description == text);
    CHECK(again.io.dataset_id == text);
    CHECK(again.train.learning_rate == config.train.learning_rate);
    CHECK(again.train.save_state_every == config.train.save_state_every);
    CHECK(again.train.warmup_steps_perc == config.train.warmup_steps_perc);
  }
}

TEST_CASE("every field is written") {
  const std::string text = to_yaml(parsed(small_config, {"resume.checkpoint_file=x.pth"}));
  for (const char* name : {"input_seq_len",
                           "num_tokens",
                           "pad_token_id",
                           "hidden_dims",
                           "seq_lens",
                           "num_layers",
                           "train_checkpoint_chunks",
                           "block",
                           "block_type",
                           "d_state",
                           "d_conv",
                           "expand",
                           "headdim",
                           "dropout",
                           "pos_emb_type",
                           "attn_head_dims",
                           "attn_num_heads",
                           "attn_use_rot_embs",
                           "attn_dropout",
                           "ff_multiplier",
                           "ff_dropout",
                           "use_flash_attn",
                           "target_elements",
                           "target_elements_strategy",
                           "batch_size",
                           "learning_rate",
                           "gradient_accumulate_every",
                           "gradient_clipping",
                           "warmup_steps_perc",
                           "max_steps",
                           "epochs",
                           "schedule",
                           "min_learning_rate",
                           "weight_decay",
                           "betas",
                           "eps",
                           "shuffle_train",
                           "shuffle_eval",
                           "max_eval_steps",
                           "seed",
                           "precision",
                           "device",
                           "save_state_every",
                           "on_nonfinite",
                           "cuda_graphs",
                           "name_model",
                           "output_dir",
                           "dataset_id",
                           "dataset_dir",
                           "dataset_args",
                           "num_models_to_save",
                           "validate_amount",
                           "log_train_loss_amount",
                           "enabled_loss_log_for_gpus",
                           "description",
                           "tensorboard",
                           "run_id",
                           "checkpoint_file",
                           "next_epoch_index",
                           "next_batch_index",
                           "migrate_embeddings",
                           "rename_modules",
                           "resumed_from"}) {
    CAPTURE(name);
    CHECK(text.find(std::string(" ") + name + ":") != std::string::npos);
  }
}

TEST_CASE("the published configurations load unchanged and equal ours") {
  for (const Published& each : published) {
    CAPTURE(each.name);
    const Overrides folders{"io.output_dir=out", "io.dataset_dir=in"};
    const std::filesystem::path file = root / "tests/golden/configs" / (std::string(each.name) + ".yaml");
    CHECK(read_run_config(file, BlockRegistry()).io.output_dir == "/data/output < set this!");
    const RunConfig theirs = read_run_config(file, BlockRegistry(), folders);
    const RunConfig ours = read_run_config(root / "configs" / (std::string(each.ours) + ".yaml"), BlockRegistry(), folders);
    CHECK(to_yaml(ours) == to_yaml(theirs));
    CHECK(std::round(parameter_count(ours.model) / 1e4) == std::round(each.millions * 100));
  }
}

TEST_CASE("a configuration without one of its lines is valid or rejected") {
  for (const std::filesystem::path& file : run_files()) {
    CAPTURE(file.string());
    const std::string text = content(file);
    int valid = 0, refused = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
      const std::string line = text.substr(begin, end - begin);
      CAPTURE(line);
      ++(is_configuration(text.substr(0, begin) + text.substr(end)) ? valid : refused);
      begin = end;
    }
    CHECK(valid > 3);
    CHECK(refused > 10);
  }
}

TEST_CASE("a configuration with damaged bytes is valid or rejected") {
  std::mt19937_64 random(7);
  int valid = 0, refused = 0;
  for (const std::filesystem::path& file : run_files()) {
    CAPTURE(file.string());
    const std::string text = content(file);
    for (int round = 0; round < 400; ++round) {
      std::string damaged = text;
      for (std::uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
        char& byte = damaged[random() % damaged.size()];
        byte = random() % 2 == 0 ? static_cast<char>(random() % 256) : static_cast<char>(byte ^ (1 << random() % 8));
      }
      CAPTURE(round);
      ++(is_configuration(damaged) ? valid : refused);
    }
  }
  CHECK(valid > 0);
  CHECK(refused > 1000);
}

TEST_CASE("pieces of a configuration in random order are rejected") {
  std::mt19937_64 random(11);
  const std::string text = small_config + "resume: {checkpoint_file: \"x\"}\n# &a *a !!int [1, {2: 3}] | > ? : - --- ... %YAML \t 'x\n";
  for (int round = 0; round < 3000; ++round) {
    std::string mixed;
    while (mixed.size() < 300) {
      const std::size_t begin = random() % text.size();
      mixed += text.substr(begin, 1 + random() % 40);
    }
    CAPTURE(mixed);
    CHECK_FALSE(is_configuration(mixed));
  }
}

}  // namespace mblm::testing
