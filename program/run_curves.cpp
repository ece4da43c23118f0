#include "program/run_curves.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <numbers>
#include <string_view>

#include "engine/error.h"
#include "engine/io/mapped_file.h"
#include "mblm/config/yaml.h"
#include "train/loss_average.h"

namespace mblm {
namespace {

// A file's text. Throws FileError.
std::string text_of(const std::filesystem::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

std::vector<std::string_view> split(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);  // of Python's csv module
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

// Columns by name. A row is the fields of one line.
class Table {
 public:
  Table(const std::filesystem::path& path, std::string text) : path_(path), text_(std::move(text)) {
    next();
    names_ = fields_;
    for (const char* name : {"elements_seen", "kind", "loss"})
      require<FileError>(column(name).has_value(), path_.string(), ":1: expected the header of a loss table, with a column ", name, ", found ",
                         shown_text(names_.empty() ? "" : std::string_view(text_).substr(0, text_.find('\n'))));
  }

  // Moves to the next complete line. Returns false at the end.
  bool next() {
    const std::size_t end = text_.find('\n', at_);
    if (end == std::string::npos) return false;
    fields_ = split(std::string_view(text_).substr(at_, end - at_));
    at_ = end + 1;
    ++line_;
    if (!names_.empty() && fields_.size() != names_.size())
      throw FileError(concat_text(path_.string(), ":", line_, ": expected ", names_.size(), " fields, found ", fields_.size()));
    return true;
  }

  // Empty without such a column.
  std::string_view text(std::string_view name) const {
    const std::optional<std::size_t> at = column(name);
    return at ? fields_[*at] : std::string_view();
  }
  // NaN without such a column or without a value in it. Numbers that no run has and that axes cannot show become infinite or 0.
  double number(std::string_view name) const {
    const std::string_view field = text(name);
    if (field.empty()) return std::nan("");
    double number = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
    require<FileError>(error == std::errc() && end == field.data() + field.size(), path_.string(), ":", line_, ": ", name, ": expected a number, found ",
                       shown_text(field));
    constexpr double largest = 1e100, smallest = 1e-100;
    return std::fabs(number) > largest ? std::copysign(HUGE_VAL, number) : std::fabs(number) < smallest ? 0 : number;
  }
  // The number of elements of a row.
  double elements() const {
    const double value = number("elements_seen");
    require<FileError>(value >= 0 && value <= 0x1p63, path_.string(), ":", line_, ": elements_seen: expected a number from 0 to 2^63, found ",
                       shown_text(text("elements_seen")));
    return value;
  }
  // The same for columns in which -1 means that there is no value.
  double positive(std::string_view name) const {
    const double value = number(name);
    return value < 0 ? std::nan("") : value;
  }

 private:
  std::optional<std::size_t> column(std::string_view name) const {
    const auto at = std::find(names_.begin(), names_.end(), name);
    return at == names_.end() ? std::nullopt : std::optional(static_cast<std::size_t>(at - names_.begin()));
  }

  std::filesystem::path path_;
  std::string text_;
  std::size_t at_ = 0, line_ = 0;
  std::vector<std::string_view> names_, fields_;
};

const YamlValue* find(const YamlValue& root, const char* section, const char* field) {
  const YamlValue* found = root.find(section);
  return found == nullptr || found->kind != YamlValue::Kind::Map ? nullptr : found->find(field);
}

// The bytes of an element that loss.csv counts, of all workers.
double bytes_per_element(const std::filesystem::path& config) {
  const YamlValue root = parse_yaml(text_of(config), config.string());
  const auto integer = [&](const char* section, const char* field, std::optional<std::int64_t> without) {
    const YamlValue* value = root.kind == YamlValue::Kind::Map ? find(root, section, field) : nullptr;
    const std::optional<std::int64_t> number = value == nullptr ? without : to_integer(*value);
    require<FileError>(number && *number > 0, config.string(), ": ", section, ".", field, ": expected a number of at least 1");
    return static_cast<double>(*number);
  };
  const double length = integer("params", "input_seq_len", {}), workers = integer("summary", "num_workers", 1);
  const YamlValue* strategy = find(root, "train", "target_elements_strategy");
  return workers * (strategy != nullptr && strategy->text == "sequence" ? 1 : length);
}

// Seconds; NaN for text that is not "2024-01-31 12:00:00.123456" (or with a T).
double seconds_of(std::string_view timestamp) {
  std::tm time{};
  double seconds = 0;
  if (std::sscanf(std::string(timestamp).c_str(), "%d-%d-%d%*1[ T]%d:%d:%lf", &time.tm_year, &time.tm_mon, &time.tm_mday, &time.tm_hour, &time.tm_min, &seconds) != 6)
    return std::nan("");
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  return static_cast<double>(timegm(&time)) + seconds;
}

// Rows of several workers for the same micro-step follow each other and become one point with the mean loss.
class LossCurve {
 public:
  explicit LossCurve(Curve& curve) : curve_(curve) {}
  // Returns whether the row starts a point.
  bool add(double x, double bits) {
    if (!curve_.empty() && curve_.back().x == x) {
      curve_.back().y += (bits - curve_.back().y) / ++rows_;
      return false;
    }
    rows_ = 1;
    curve_.push_back({x, bits});
    return true;
  }

 private:
  Curve& curve_;
  double rows_ = 0;
};

}  // namespace

Curve smoothed(const Curve& curve) {
  LossAverage average;
  Curve result;
  for (const auto& [x, y] : curve) {
    if (std::isfinite(y)) average.add(y);
    if (average.value()) result.push_back({x, *average.value()});
  }
  return result;
}

RunCurves read_run_curves(const std::filesystem::path& folder) {
  std::error_code error;
  for (const char* name : {"loss.csv", "config.yaml"})
    require<FileError>(std::filesystem::is_regular_file(folder / name, error), folder.string(), ": expected a run's folder, ", name, " is missing");
  const double element = bytes_per_element(folder / "config.yaml");
  Table table(folder / "loss.csv", text_of(folder / "loss.csv"));

  RunCurves run{.folder = folder, .name = std::filesystem::absolute(folder).lexically_normal().filename().string()};
  if (run.name.empty()) run.name = std::filesystem::absolute(folder).lexically_normal().parent_path().filename().string();
  LossCurve training(run.training), validation(run.validation);
  Curve from_times;
  CurvePoint before{std::nan(""), std::nan("")};  // bytes and time of the previous training row
  while (table.next()) {
    const std::string_view kind = table.text("kind");
    const double bits = table.number("loss") / std::numbers::ln2;
    if (kind == "test") run.test = bits;
    if (kind != "train" && kind != "valid") continue;
    const double x = table.elements() * element;
    if (kind == "valid") {
      validation.add(x, bits);
      before = {std::nan(""), std::nan("")};
    }
    if (kind != "train" || !training.add(x, bits)) continue;
    const auto add = [&](Curve& curve, double value) {
      if (std::isfinite(value)) curve.push_back({x, value});
    };
    add(run.smoothed, table.positive("smoothed_loss") / std::numbers::ln2);
    add(run.learning_rate, table.positive("lr"));
    add(run.gradient_norm, table.positive("grad_norm"));
    add(run.bytes_per_second, table.positive("bytes_per_second"));
    const double seconds = seconds_of(table.text("timestamp"));
    if (seconds > before.y) add(from_times, (x - before.x) / (seconds - before.y));
    before = {x, seconds};
  }
  require<FileError>(!run.training.empty() || !run.validation.empty(), (folder / "loss.csv").string(), ": there are no losses yet");
  if (run.smoothed.empty()) run.smoothed = smoothed(run.training);
  if (run.bytes_per_second.empty()) run.bytes_per_second = std::move(from_times);
  return run;
}

}  // namespace mblm
