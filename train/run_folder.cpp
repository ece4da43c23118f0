#include "train/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "engine/io/atomic_file.h"
#include "engine/io/file.h"
#include "engine/io/folder.h"
#include "engine/io/mapped_file.h"
#include "engine/io/safetensors.h"
#include "mblm/config/yaml.h"

namespace mblm {
namespace {

std::filesystem::path lock_file(const std::filesystem::path& run) { return run / "state" / "lock"; }

// The paths that a new run creates. The destructor removes them, as far as they are empty folders or named files, unless keep() was
// called: a start that fails leaves nothing that blocks the next one.
class NewPaths {
 public:
  NewPaths() = default;
  ~NewPaths() {
    std::error_code ignored;
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) std::filesystem::remove(*path, ignored);
  }
  NewPaths(const NewPaths&) = delete;
  NewPaths& operator=(const NewPaths&) = delete;

  // Creates a folder and the folders around it. Returns false if it existed.
  bool make_folders(const std::filesystem::path& path, const char* failure) {
    std::error_code error;
    const auto first = std::ssize(paths_);
    for (std::filesystem::path missing = path; !missing.empty() && !std::filesystem::exists(missing, error); missing = missing.parent_path())
      paths_.insert(paths_.begin() + first, missing);
    const bool made = std::filesystem::create_directories(path, error);
    if (error) throw_file_error(path, failure, error.value());
    return made;
  }
  void add_file(const std::filesystem::path& path) {
    if (!path_exists(path)) paths_.push_back(path);
  }
  void keep() { paths_.clear(); }

 private:
  std::vector<std::filesystem::path> paths_;  // outer folders first
};

// Whether the folder contains a run's lock and otherwise only what a run has before its config.yaml is written, and no states or
// checkpoints.
bool is_unstarted(const std::filesystem::path& run) {
  if (!path_exists(lock_file(run))) return false;
  constexpr std::array<std::string_view, 6> own{"checkpoints", "state", "lock", "loss.csv", "timemem.csv", "train.log"};
  for (const std::filesystem::path& folder : {run, run / "checkpoints", run / "state"}) {
    if (!path_exists(folder)) continue;
    for (const std::filesystem::path& entry : entries_of(folder))
      if (std::find(own.begin(), own.end(), entry.filename().native()) == own.end()) return false;
  }
  return true;
}

// Throws FileError for a run folder that exists, unless no run was started in it.
void check_is_new(const std::filesystem::path& path, bool is_new) {
  const std::string holder = is_new ? "" : RunLock::holder(lock_file(path));
  require<FileError>(holder.empty(), path.string(), ": the run folder already exists and is in use by process ", holder);
  require<FileError>(is_new || is_unstarted(path), path.string(), ": the run folder already exists; set another io.run_id, or resume the run with mblm resume");
}

std::filesystem::path checked_folder(std::filesystem::path path) {
  for (const char* part : {"config.yaml", "checkpoints", "state"})
    require<FileError>(path_exists(path / part), path.string(), ": expected a run folder, ", part, " is missing");
  return path;
}

YamlValue text_or_null(const std::string& text) { return text.empty() ? YamlValue() : yaml_of(text); }

YamlValue summary_section(const RunSummary& summary) {
  YamlValue devices;
  devices.kind = YamlValue::Kind::List;
  for (const std::string& device : summary.devices) devices.items.push_back(yaml_of(device));
  YamlValue section;
  YamlValue& fields = section.add("summary", {});
  fields.add("parameter_count", yaml_of(summary.parameter_count));
  fields.add("num_workers", yaml_of(summary.num_workers));
  fields.add("devices", std::move(devices));
  fields.add("best_checkpoint", text_or_null(summary.best_checkpoint));
  fields.add("next_epoch_index", yaml_of(summary.next_epoch_index));
  fields.add("next_batch_index", yaml_of(summary.next_batch_index));
  fields.add("training_start", text_or_null(summary.training_start));
  fields.add("training_end", text_or_null(summary.training_end));
  fields.add("error", text_or_null(summary.error));
  return section;
}

// Adds the columns of loss_header that a table of an earlier version lacks at its end. Leaves other tables unchanged.
std::string with_all_columns(std::string_view table) {
  const std::string_view header = table.substr(0, table.find('\n')), whole = loss_header.substr(0, loss_header.size() - 1);
  if (header.size() >= whole.size() || !whole.starts_with(header) || whole[header.size()] != ',') return std::string(table);
  const std::string_view missing = whole.substr(header.size());
  std::string no_values;
  for (auto count = std::count(missing.begin(), missing.end(), ','); count > 0; --count) no_values += ",-1";
  std::string text;
  for (std::size_t at = 0; at < table.size();) {
    const std::size_t end = std::min(table.find('\n', at), table.size());
    text += concat_text(table.substr(at, end - at), at == 0 ? missing : std::string_view(no_values), "\n");
    at = end + 1;
  }
  return text;
}

void put(std::string& line, std::string_view field) { line.append(field); }
template <class T>
  requires std::is_arithmetic_v<T>
void put(std::string& line, T number) {
  std::array<char, 32> text;
  line.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr);
}
template <class T> void put(std::string& line, const std::optional<T>& field) {
  if (field) put(line, *field);
}

template <class First, class... Rest>
std::string join(const First& first, const Rest&... rest) {
  std::string line;
  put(line, first);
  ((line.push_back(','), put(line, rest)), ...);
  line.push_back('\n');
  return line;
}

}  // namespace

std::string format_now(char separator) {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(since_1970).count();
  const std::time_t seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 64> text;
  const std::size_t date = std::strftime(text.data(), text.size(), separator == ' ' ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &local);
  std::string fraction = std::to_string(micros % 1'000'000);
  fraction.insert(0, 6 - fraction.size(), '0');
  return std::string(text.data(), date) + "." + fraction;
}

std::string run_id_of(const IoConfig& config, const std::string& job_id, std::chrono::system_clock::time_point start) {
  if (job_id.empty() && !config.run_id) return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(start.time_since_epoch()).count());
  const bool by_job = !job_id.empty();
  const std::string& id = by_job ? job_id : *config.run_id;
  require<ConfigError>(!id.empty() && id.find('/') == std::string::npos && id.find('\0') == std::string::npos, by_job ? "JOB_ID" : "io.run_id",
                       ": expected a valid part of a folder name, got ", shown_text(id));
  return id;
}

std::string shortest_text(double number) {
  std::string text;
  put(text, number);
  return text;
}

std::string to_csv(const LossRow& r) {
  return join(r.gpu_rank, r.timestamp, r.elements_seen, r.kind, r.epoch, r.batch, r.cum_batch, r.loss, r.lr, r.avg_grad, r.avg_grad_clipped, r.grad_norm,
              r.bytes_per_second, r.smoothed_loss);
}

std::string to_csv(const TimeMemoryRow& r) {
  return join(r.cum_batch, r.num_items, r.kind, r.fw_time, r.bw_time, r.allocated, r.allocated_max, r.reserved, r.reserved_max, r.total);
}

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw_file_error(path_, "cannot be written");
}

void AppendFile::append(std::string_view text) {
  if (write_all(file_.number(), text.data(), text.size()) < text.size()) throw_file_error(path_, "cannot be written");
}

void AppendFile::flush() {
  if (const int error = flush_to_disk(file_.number()); error != 0 && !is_unsupported(error)) throw_file_error(path_, "cannot be written to disk", error);
}

bool AppendFile::is_durable() const { return !is_unsupported(flush_to_disk(file_.number())); }

std::size_t AppendFile::end_of(std::int64_t lines) const {
  std::size_t end = 0;
  const MappedFile content(path_);
  const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
  for (std::int64_t line = 0; line < lines; ++line) {
    const std::size_t at = text.find('\n', end);
    require<FileError>(at != std::string_view::npos, path_.string(), ": expected at least ", lines, " lines, found ", line);
    end = at + 1;
  }
  return end;
}

void AppendFile::keep_lines(std::int64_t lines) {
  if (::ftruncate(file_.number(), static_cast<off_t>(end_of(lines))) != 0) throw_file_error(path_, "cannot be truncated");
}

void AppendFile::rewrite(const std::function<std::string(std::string_view)>& edit) {
  std::string edited;
  {
    const MappedFile content(path_);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    edited = edit(text);
    if (edited == text) return;
  }
  write_file_atomically(path_, edited);
  *this = AppendFile(path_);
}

std::filesystem::path RunFolder::path_for(const IoConfig& config, const std::string& run_id) {
  return std::filesystem::path(config.output_dir) / (config.name_model + "_" + run_id);
}

void RunFolder::check_available(const IoConfig& config, const std::string& run_id) {
  const std::filesystem::path path = path_for(config, run_id);
  std::error_code error;
  check_is_new(path, !path_exists(path));
  std::filesystem::path parent = std::filesystem::absolute(path, error).parent_path();
  while (!std::filesystem::exists(parent, error) && parent.has_relative_path()) parent = parent.parent_path();
  require<FileError>(std::filesystem::is_directory(parent, error), parent.string(), ": cannot create the run folder: not a folder");
  std::string trial = (parent / ".mblm_XXXXXX").string();  // permissions alone do not say it: the file system may be read-only
  if (::mkdtemp(trial.data()) == nullptr) throw_file_error(parent, "cannot create the run folder", errno);
  ::rmdir(trial.c_str());
}

// The lock is taken as early as possible and the folder is changed only under the lock: of two processes that create the same run, one
// fails and leaves the folder to the other.
RunFolder::RunFolder(const IoConfig& config, const std::string& run_id) : path_(path_for(config, run_id)) {
  NewPaths made;
  made.make_folders(path_.parent_path(), "cannot create the output folder");
  const bool is_new = made.make_folders(path_, "cannot create the run folder");
  check_is_new(path_, is_new);
  made.make_folders(states(), "cannot create the folder");
  made.add_file(lock_file(path_));
  try {
    RunLock lock(lock_file(path_), path_);
    made.make_folders(checkpoints(), "cannot create the folder");
    for (const char* file : {"loss.csv", "timemem.csv", "train.log"}) made.add_file(path_ / file);
    files_.emplace(std::move(lock), path_);
    go_back_to_start();
  } catch (...) {
    files_.reset();
    throw;
  }
  made.keep();
}

void RunFolder::go_back_to_start() {
  for (AppendFile* file : {&files_->loss, &files_->time_memory, &files_->log}) file->keep_lines(0);
  files_->loss.append(loss_header);
  files_->time_memory.append(time_memory_header);
}

RunFolder::RunFolder(std::filesystem::path path) : path_(checked_folder(std::move(path))), files_(std::in_place, RunLock(lock_file(path_), path_), path_) {}

RunFolder::Files::Files(RunLock held, const std::filesystem::path& run)
    : lock(std::move(held)), loss(run / "loss.csv"), time_memory(run / "timemem.csv"), log(run / "train.log") {}

std::vector<std::string> RunFolder::warnings() const {
  std::vector<std::string> lines;
  if (!files_) return lines;
  if (!files_->lock.warning().empty()) lines.push_back(files_->lock.warning());
  if (!files_->log.is_durable())
    lines.push_back(path_.string() + ": the file system cannot flush files to disk: a power failure may damage the newest states and checkpoints");
  return lines;
}

void RunFolder::write(const LossRow& row) {
  if (!files_) return;
  files_->loss.append(to_csv(row));
  ++rows_.loss;
}

void RunFolder::write(const TimeMemoryRow& row) {
  if (!files_) return;
  files_->time_memory.append(to_csv(row));
  ++rows_.time_memory;
}

void RunFolder::flush() {
  if (!files_) return;
  files_->loss.flush();
  files_->time_memory.flush();
  files_->log.flush();
}

void RunFolder::check_rows(RowCounts rows) const {
  if (!files_) return;
  files_->loss.check_lines(1 + rows.loss);
  files_->time_memory.check_lines(1 + rows.time_memory);
}

void RunFolder::go_back_to(RowCounts rows) {
  if (!files_) return;
  check_rows(rows);
  files_->loss.keep_lines(1 + rows.loss);
  files_->loss.rewrite(with_all_columns);
  files_->time_memory.keep_lines(1 + rows.time_memory);
  rows_ = rows;
  for (const std::filesystem::path& folder : {path_, checkpoints(), states()}) remove_unfinished_files(folder);
}

void RunFolder::write_config(const RunConfig& config, const RunSummary& summary) {
  if (!files_) return;
  write_file_atomically(path_ / "config.yaml", to_yaml(config) + write_yaml(summary_section(summary)));
}

void RunFolder::log(std::string_view line) {
  if (files_) files_->log.append(concat_text(format_now(), " ", line, "\n"));
}

namespace {

// Version 0.1 wrote its best checkpoint, or none, to resume.checkpoint_file, and the start of the run to resume.resumed_from.
bool is_own_checkpoint(const std::filesystem::path& file, const std::filesystem::path& run) {
  std::error_code error;
  const std::filesystem::path folder = file.parent_path();
  return file.empty() || (folder.filename() == "checkpoints" && folder.parent_path().filename() == std::filesystem::weakly_canonical(run, error).filename());
}

}  // namespace

RunConfig read_config_of_run(const std::filesystem::path& folder, const BlockRegistry& registry, const Overrides& overrides) {
  const std::filesystem::path file = checked_folder(folder) / "config.yaml";
  const IoConfig before = read_run_config(file, registry).io;
  RunConfig config = read_run_config(file, registry, overrides);
  const auto text_of = [](const std::string& value) { return value.empty() ? "null" : in_quotes(value); };
  const auto check = [&](const char* field, const std::string& found, const std::string& expected) {
    require<ConfigError>(found == expected, "io.", field, ": cannot change, since it determines the run folder: expected ", text_of(expected), ", got ",
                         text_of(found));
  };
  check("name_model", config.io.name_model, before.name_model);
  check("output_dir", config.io.output_dir, before.output_dir);
  check("run_id", config.io.run_id.value_or(""), before.run_id.value_or(""));
  if (config.resume && is_own_checkpoint(config.resume->checkpoint_file, folder)) {
    const std::optional<std::string> start = config.resume->resumed_from;
    config.resume.reset();
    if (start) config.resume.emplace().checkpoint_file = *start;
  }
  return config;
}

}  // namespace mblm
