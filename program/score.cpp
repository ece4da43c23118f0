// mblm score: bits per byte of files.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>

#include "mblm/predict_stream.h"
#include "mblm/sample.h"
#include "program/interrupt.h"
#include "program/program.h"
#include "program/progress_line.h"
#include "program/score_page.h"
#include "program/stream_progress.h"

namespace mblm {
namespace {

struct FileScore {
  std::string file;
  std::int64_t bytes = 0;
  double bits = 0;
  std::int64_t windows = 0;

  std::optional<double> bits_per_byte() const { return bytes == 0 ? std::nullopt : std::optional(bits / static_cast<double>(bytes)); }
};

template <class... Values>
std::string formatted(const char* format, Values... values) {
  char line[128];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

nlohmann::ordered_json json_number(const std::optional<double>& value) { return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(); }

std::string json_line(const nlohmann::ordered_json& json) { return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

// Sentences for a person: the windows of a file that exceeds the context; empty for others.
std::string windows_text(const FileScore& score, std::int64_t context) {
  if (score.windows <= 1) return {};
  return concat_text("scored in ", score.windows, " windows that do not overlap, each from the start token: the fixed context is ", context, " bytes");
}

// Writes the results in the forms that the command line asks for.
class ScoreOutput {
 public:
  ScoreOutput(const ScoreCommand& command, std::int64_t context) : command_(command), context_(context) {
    if (command.html) page_ = std::make_unique<ScorePage>(*command.html, command.model.model);
    if (!command.json) lines_ = command.per_byte ? "# offset byte bits\n" : "bits per byte          bytes  file\n";
  }

  void begin_file(const std::string& name) {
    if (page_ != nullptr) page_->begin_file(name);
    if (command_.per_byte && !command_.json) lines_ += "# " + name + "\n";
  }
  void add(std::int64_t offset, std::uint8_t byte, double bits, const std::string& name) {
    if (page_ != nullptr) page_->add(byte, bits);
    if (!command_.per_byte) return;
    lines_ += command_.json ? json_line({{"file", name}, {"offset", offset}, {"byte", byte}, {"bits", bits}})
                            : formatted("%lld %d %.5f\n", static_cast<long long>(offset), static_cast<int>(byte), bits);
    if (lines_.size() >= std::size_t{1} << 16) flush();
  }
  void end_file(const FileScore& score) {
    const std::string windows = windows_text(score, context_);
    if (page_ != nullptr) page_->end_file(windows);
    if (command_.json) {
      if (!windows.empty()) write_note(concat_text(score.file, ": ", windows));
    } else {
      lines_ += row(score);
      if (!windows.empty()) lines_ += concat_text("# ", score.file, ": ", windows, "\n");
    }
    flush();
  }
  void finish(const std::vector<FileScore>& scores) {
    FileScore total{"total"};
    for (const FileScore& score : scores) {
      total.bytes += score.bytes;
      total.bits += score.bits;
    }
    if (page_ != nullptr) page_->commit();
    if (command_.json) {
      write_output(json(total, scores));
    } else if (scores.size() > 1) {
      write_output(row(total));
    }
  }
  void flush() {
    write_output(lines_);
    lines_.clear();
  }

 private:
  std::string row(const FileScore& score) const {
    const std::string number = score.bytes == 0 ? "-" : formatted("%.5f", *score.bits_per_byte());
    if (command_.per_byte) return concat_text("# ", score.file, ": ", score.bytes, " bytes, ", number, " bits per byte\n");
    return concat_text(formatted("%13s %14lld  ", number.c_str(), static_cast<long long>(score.bytes)), score.file, "\n");
  }
  std::string json(const FileScore& total, const std::vector<FileScore>& scores) const {
    nlohmann::ordered_json json;
    json["bits_per_byte"] = json_number(total.bits_per_byte());
    json["bytes"] = total.bytes;
    json["files"] = nlohmann::ordered_json::array();
    for (const FileScore& score : scores) {
      nlohmann::ordered_json file{{"file", score.file}, {"bytes", score.bytes}, {"bits_per_byte", json_number(score.bits_per_byte())}};
      if (score.windows > 1) {
        file["windows"] = score.windows;
        file["window_bytes"] = context_;
      }
      json["files"].push_back(std::move(file));
    }
    return json_line(json);
  }

  const ScoreCommand& command_;
  const std::int64_t context_;
  std::unique_ptr<ScorePage> page_;
  std::string lines_;
};

FileScore score_file(Scorer& scorer, const ModelConfig& config, const std::string& name, ScoreOutput& output) {
  ByteReader input(name);
  StreamProgress progress(input.name(), input.size());
  FileScore score{input.name()};
  output.begin_file(score.file);
  predict_stream(scorer, input, [&](const PredictedChunk& chunk) {
    const std::size_t width = chunk.logits.size() / chunk.bytes.size();
    for (std::size_t i = 0; i < chunk.bytes.size(); ++i) {
      const double bits = -log_probability(chunk.logits.subspan(i * width, width), chunk.bytes[i]) / std::numbers::ln2;
      const std::int64_t offset = chunk.offset + static_cast<std::int64_t>(i);
      require<ValueError>(bits == bits, score.file, ": offset ", offset, ": the model's probability is not a number");
      score.bits += bits;
      output.add(offset, chunk.bytes[i], std::max(bits, 0.0), score.file);
    }
    score.bytes += std::ssize(chunk.bytes);
    progress.show(score.bytes);
  });
  score.windows = window_count(config, score.bytes);
  progress.clear();
  output.end_file(score);
  return score;
}

}  // namespace

int run(const ScoreCommand& command) {
  const std::unique_ptr<Model> model = load_model(command.model, command.compute);
  Scorer scorer(*model);
  const std::vector<std::string> files = command.files.empty() ? std::vector<std::string>{"-"} : command.files;
  for (const std::string& file : files) {
    check_input(file);
    std::error_code error;
    require<ValueError>(!command.html || !std::filesystem::equivalent(*command.html, file, error), "--html: expected another file than those to score, got ", file);
  }
  ScoreOutput output(command, model->config().context());
  std::optional<InterruptScope> interrupt;  // removes an unfinished page
  if (command.html) interrupt.emplace();
  std::vector<FileScore> scores;
  try {
    for (const std::string& file : files) scores.push_back(score_file(scorer, model->config(), file, output));
  } catch (const Interrupted& interrupted) {
    return exit_status(interrupted);
  }
  output.finish(scores);
  return 0;
}

}  // namespace mblm
