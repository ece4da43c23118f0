// mblm eval: evaluates a model on a split.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error.h"
#include "engine/io/folder.h"
#include "program/program.h"
#include "program/progress_line.h"
#include "train/data/dataset.h"
#include "train/data/text_datasets.h"
#include "train/evaluate.h"
#include "train/training_data.h"

namespace mblm {
namespace {

constexpr std::int64_t bytes_per_batch = 16384;  // enough to keep the threads busy

Split split_named(const std::string& name) {
  for (const Split split : {Split::Train, Split::Validation, Split::All})
    if (name == name_of(split)) return split;
  return Split::Test;
}

// Returns the data set itself if it has masks, else masks its sequences as in the run's training.
std::unique_ptr<Dataset> with_masks(std::unique_ptr<Dataset> dataset, const DatasetRequest& request, const std::string& model) {
  if (dataset->parts().labels) return dataset;
  require<ValueError>(request.masking.has_value(), model,
                      ": not a run's folder, whose config gives the masking probability (train.masking_proba)");
  return std::make_unique<MaskedDataset>(std::move(dataset), request);
}

// Opens the data that the command line names, else the data of the run's config.
std::unique_ptr<Dataset> open_data(const EvalCommand& command, const ModelConfig& model) {
  const std::filesystem::path run_config = std::filesystem::path(command.model.model) / "config.yaml";
  const bool is_run = path_exists(run_config);
  require<ValueError>(is_run || command.data, command.model.model, ": not a run's folder, whose config names the data; give --data");
  DatasetRequest request;
  request.split = split_named(command.split);
  request.length = model.context();
  request.num_tokens = model.num_tokens;
  request.pad_token_id = model.pad_token_id;
  std::string id = "files";  // reads any text, whatever data set the run used
  if (is_run) {
    const RunConfig run = read_run_config(run_config, BlockRegistry());
    request.length = run.input_seq_len;
    request.masking = masking_of(run);
    request.seed = static_cast<std::uint64_t>(run.train.seed);
    if (!command.data || run.io.dataset_args != nullptr) {
      id = run.io.dataset_id;
      request.path = run.io.dataset_dir;
      request.arguments = run.io.dataset_args;
    }
  }
  if (command.data) request.path = *command.data;
  std::unique_ptr<Dataset> dataset = command.data ? DatasetRegistry().make(id, request) : open_split(DatasetRegistry(), id, request, "give the data with --data");
  require<FileError>(dataset != nullptr, request.path.string(), ": expected a ", command.split, " split, there is none; give another --split");
  return model.is_masked() ? with_masks(std::move(dataset), request, command.model.model) : std::move(dataset);
}

Evaluation run_evaluation(const Model& model, const Dataset& dataset) {
  ProgressLine line(STDERR_FILENO);
  EvaluationOptions options;
  options.batch_size = std::max<std::int64_t>(1, bytes_per_batch / dataset.length());
  if (line.redraws()) {
    options.on_progress = [&line](std::int64_t done, std::int64_t batches) { line.show(concat_text("batch ", done, '/', batches)); };
  }
  const Evaluation result = evaluate(model, dataset, options);
  line.clear();
  return result;
}

nlohmann::ordered_json as_json(const AnswerScore& score) {
  return {{"answers", score.answers}, {"correct", score.correct}, {"accuracy", score.accuracy()}};
}

// Masked language models, data sets of questions and data that are not text have no word perplexity: they do not predict running text.
std::string as_json(const EvalCommand& command, const Evaluation& e, bool is_masked) {
  nlohmann::ordered_json json;
  json["model"] = command.model.model;
  json["split"] = command.split;
  json["sequences"] = e.sequences;
  json["bytes"] = e.bytes;
  json["loss"] = e.mean_loss();
  json["bits_per_byte"] = e.bits_per_byte();
  if (is_masked) {
    json["accuracy"] = e.accuracy();
  } else if (e.answers.empty() && e.is_text()) {
    json["words"] = e.words;
    json["word_perplexity"] = e.word_perplexity();
  } else if (!e.answers.empty()) {
    json["questions"] = as_json(e.all_answers());
    for (const auto& [kind, score] : e.answers) json["questions"]["by_kind"][kind] = as_json(score);
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void add_answers(std::ostringstream& out, const Evaluation& e) {
  const auto row = [&out](const auto& kind, const auto& answers, const auto& correct, const auto& accuracy) {
    out << std::left << std::setw(20) << kind << std::right << std::setw(9) << answers << std::setw(9) << correct << std::setw(10) << accuracy << '\n';
  };
  const auto score_row = [&row](const std::string& kind, const AnswerScore& score) { row(kind, score.answers, score.correct, score.accuracy()); };
  out << '\n';
  row("question", "answers", "correct", "accuracy");
  for (const auto& [kind, score] : e.answers) score_row(kind, score);
  score_row("all", e.all_answers());
}

std::string as_table(const EvalCommand& command, const Evaluation& e, bool is_masked) {
  std::ostringstream out;
  const auto row = [&out](const char* name, const auto& value) { out << std::left << std::setw(17) << name << value << '\n'; };
  row("split", command.split);
  row("sequences", e.sequences);
  row(is_masked ? "masked bytes" : "bytes", e.bytes);
  out << std::fixed << std::setprecision(5);
  row("loss", e.mean_loss());
  row("bits per byte", e.bits_per_byte());
  if (is_masked) {
    row("accuracy", e.accuracy());
  } else if (e.answers.empty() && e.is_text()) {
    row("words", e.words);
    row("word perplexity", e.word_perplexity());
  } else if (!e.answers.empty()) {
    add_answers(out, e);
  }
  return std::move(out).str();
}

}  // namespace

int run(const EvalCommand& command) {
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  const std::unique_ptr<Dataset> dataset = open_data(command, model->config());
  for (const std::string& warning : dataset->warnings()) write_note("warning: " + warning);
  const std::string padding = padding_warning(*dataset, command.data.value_or("the data"), model->config());
  if (!padding.empty()) write_note("warning: " + padding);
  if (const std::string extent = dataset->extent(); !extent.empty())
    write_note(concat_text(extent, ", the ", command.split, " split; --split all reads all bytes"));
  const Evaluation result = run_evaluation(*model, *dataset);
  const bool is_masked = model->config().is_masked();
  require<ValueError>(result.bytes > 0, command.model.model, ": the ", command.split, " split has no bytes to evaluate, all are padding",
                      is_masked ? " or not masked" : "");
  write_output(command.json ? as_json(command, result, is_masked) : as_table(command, result, is_masked));
  return 0;
}

}  // namespace mblm
