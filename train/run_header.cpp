#include "train/run_header.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "engine/error.h"
#include "engine/parallel.h"
#include "mblm/config/field_docs.h"
#include "mblm/info.h"
#include "train/data/text_datasets.h"

namespace mblm {
namespace {

// 1.92 M, 34.5 k, 999
std::string short_count(std::int64_t count) {
  const double number = static_cast<double>(count);
  if (count < 1000) return std::to_string(count);
  return count < 1'000'000 ? concat_text(std::fixed, std::setprecision(1), number / 1e3, " k") : concat_text(std::fixed, std::setprecision(2), number / 1e6, " M");
}
std::string gigabytes(double bytes) {
  const bool small = bytes < 999.5e6;
  return concat_text(std::fixed, std::setprecision(1), bytes / (small ? 1e6 : 1e9), small ? " MB" : " GB");
}

class Lines {
 public:
  void add(const std::string& topic, const std::string& text) {
    lines_.push_back(topic.empty() ? "  " + text : topic + ": " + text);
  }
  std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::vector<std::string> lines_;
};

void add_model(Lines& lines, const ModelSummary& summary) {
  std::int64_t others = summary.parameters;
  std::string text;
  for (const StageSummary& stage : summary.stages) {
    text += concat_text(", ", stage.block_type, " ", stage.layers, " x ", stage.width, ": ", short_count(stage.parameters));
    others -= stage.parameters;
  }
  lines.add("model", concat_text(short_count(summary.parameters), " parameters", text, ", embeddings and logits: ", short_count(others)));
}

void add_data(Lines& lines, const RunHeader& h) {
  const IoConfig& io = h.config.io;
  lines.add("data", concat_text(io.dataset_id, ", ", io.dataset_dir));
  const auto split = [&](const char* name, const Dataset* dataset) {
    if (dataset == nullptr) return lines.add("", concat_text(name, ": none"));
    const std::string what = dataset->describe();
    lines.add("", concat_text(name, ": ", dataset->size(0), " sequences of ", dataset->length(), what.empty() ? "" : " ids, ", what));
  };
  split(h.workers > 1 ? "training (the first worker's share)" : "training", &h.data.train());
  split("validation", &h.data.validation());
  split("test", h.data.test());
  if (io.dataset_id == "files" && !has_split_folders(io.dataset_dir))
    lines.add("", "split by file order: the first 90 % are for training, then 5 % for test, the last 5 % for validation");
}

void add_steps(Lines& lines, const RunHeader& h) {
  const TrainConfig& train = h.config.train;
  std::ostringstream text;
  text << h.schedule.steps() << " optimizer steps of ";
  if (h.workers > 1) text << h.workers << " workers x ";
  if (train.gradient_accumulate_every > 1) text << train.gradient_accumulate_every << " x ";
  text << train.batch_size << " x " << h.config.input_seq_len << " bytes, " << h.schedule.warmup_steps() << " of them warm-up; "
       << h.schedule.micro_steps() << " micro-steps";
  const std::int64_t epoch = h.data.train().size(0) / train.batch_size;
  if (epoch > 0) text << ", " << std::fixed << std::setprecision(1) << static_cast<double>(h.schedule.micro_steps()) / static_cast<double>(epoch) << " epochs";
  lines.add("steps", std::move(text).str());
}

std::string start_text(const RunHeader& h) {
  if (h.state.micro_step > 0) return concat_text("saved state after micro-step ", h.state.micro_step);
  if (!h.config.resume || h.config.resume->checkpoint_file.empty()) return concat_text("new parameters, seed ", h.config.train.seed);
  return concat_text("parameters of ", h.config.resume->checkpoint_file, " at epoch ", h.config.resume->next_epoch_index, ", batch ",
                     h.config.resume->next_batch_index, " (resume.checkpoint_file)");
}

}  // namespace

double training_bytes(const RunConfig& config, const Model& model) {
  const ModelSummary summary = summarize_model(config.model, model.parameters(), config.input_seq_len);
  const bool narrow = model.parameters().bfloat16_values().defined();
  const double copies = (narrow ? 2.0 : 0.0) + (model.parameters().widened_values().defined() ? 4.0 : 0.0);
  return summary.optimizer_bytes() + copies * static_cast<double>(summary.parameters) + summary.activation_bytes(config.train.batch_size) * (narrow ? 0.5 : 1.0);
}

std::vector<std::string> header_lines(const RunHeader& h) {
  Lines lines;
  add_model(lines, summarize_model(h.config.model, h.model.parameters(), h.config.input_seq_len));
  lines.add("start", start_text(h));
  const std::string threads = h.device.kind == DeviceKind::Cpu ? concat_text(", ", thread_count(), " threads") : "";
  lines.add("device", concat_text(h.device, " (", h.device_description, "), ", h.config.train.precision.value_or("float32"), threads));
  add_data(lines, h);
  add_steps(lines, h);
  const double needed = training_bytes(h.config, h.model), free = static_cast<double>(h.free_bytes);
  const std::string free_text = h.free_bytes > 0 ? concat_text(" of ", gigabytes(free), " free", needed > free ? ": probably too little" : "") : "";
  lines.add("memory", concat_text("about ", gigabytes(needed), free_text));
  lines.add("folder", h.folder.string());
  return lines.take();
}

std::vector<std::string> fitted_lines(const std::vector<std::string>& lines, std::size_t width) {
  std::vector<std::string> all;
  for (const std::string& line : lines) {
    if (line.size() <= width) {
      all.push_back(line);
      continue;
    }
    const std::string indent(line.find_first_not_of(' '), ' ');
    std::string start = indent;
    for (const std::string& part : wrapped(line, std::max<std::size_t>(20, width) - indent.size() - 4)) {
      all.push_back(start + part);
      start = indent + "    ";
    }
  }
  return all;
}

}  // namespace mblm
