#include "train/run_folder.h"

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/io/file.h"
#include "engine/io/safetensors.h"

namespace mblm {
namespace {

std::filesystem::path lock_file(const std::filesystem::path& run) { return run / "state" / "lock"; }

// The output folder that a run's is in. What is made of it goes again with the folders that are not used.
class OutputFolder {
 public:
  explicit OutputFolder(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    for (std::filesystem::path missing = path; !missing.empty() && !std::filesystem::exists(missing, error); missing = missing.parent_path()) ++made_;
    std::filesystem::create_directories(path, error);
    if (!error) return;
    remove();
    throw_file_error(path, "cannot make the output folder", error.value());
  }
  void remove() const {
    std::error_code error;
    std::filesystem::path made = path_;
    for (int i = 0; i < made_; ++i, made = made.parent_path()) std::filesystem::remove(made, error);
  }

 private:
  std::filesystem::path path_;
  int made_ = 0;
};

std::filesystem::path make_folder(const std::filesystem::path& path) {
  const OutputFolder output(path.parent_path());
  std::error_code error;
  const bool made = std::filesystem::create_directory(path, error);
  if (error) {
    output.remove();
    throw_file_error(path, "cannot make the run's folder", error.value());
  }
  const std::string holder = made ? "" : RunLock::holder(lock_file(path));
  require<FileError>(holder.empty(), path.string(), ": expected a new folder for the run, found one that process ", holder, " works on");
  require<FileError>(made, path.string(), ": expected a new folder for the run, found one; set io.run_id to another name, or go on with mblm resume");
  for (const char* inner : {"checkpoints", "state"}) {
    std::filesystem::create_directory(path / inner, error);
    if (error) throw_file_error(path / inner, "cannot make the folder", error.value());
  }
  return path;
}

std::filesystem::path checked_folder(std::filesystem::path path) {
  for (const char* part : {"config.yaml", "checkpoints", "state"})
    require<FileError>(std::filesystem::exists(path / part), path.string(), ": expected the folder of a run, found no ", part, " in it");
  return path;
}

// A double-quoted YAML string; JSON's escapes are YAML's.
std::string quoted(const std::string& text) {
  return text.empty() ? "null" : nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string format_time(std::chrono::system_clock::time_point time, char separator) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 64> text;
  const std::size_t date = std::strftime(text.data(), text.size(), separator == ' ' ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &local);
  std::string fraction = std::to_string(micros % 1'000'000);
  fraction.insert(0, 6 - fraction.size(), '0');
  return std::string(text.data(), date) + "." + fraction;
}

std::string format_now(char separator) { return format_time(std::chrono::system_clock::now(), separator); }

std::string run_id_of(const IoConfig& config, const std::string& job_id, std::chrono::system_clock::time_point start) {
  if (job_id.empty() && !config.run_id) return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(start.time_since_epoch()).count());
  const bool by_job = !job_id.empty();
  const std::string& id = by_job ? job_id : *config.run_id;
  require<ConfigError>(!id.empty() && id.find('/') == std::string::npos && id.find('\0') == std::string::npos, by_job ? "JOB_ID" : "io.run_id",
                       ": expected a part of a folder's name, got \"", id, "\"");
  return id;
}

RunFolder::RunFolder(const IoConfig& config, const std::string& run_id)
    : path_(make_folder(std::filesystem::path(config.output_dir) / (config.name_model + "_" + run_id))), files_(path_) {
  files_->loss.append(loss_header);
  files_->time_memory.append(time_memory_header);
}

RunFolder::RunFolder(std::filesystem::path path) : path_(checked_folder(std::move(path))), files_(path_) {}

RunFolder::Files::Files(const std::filesystem::path& run)
    : lock(lock_file(run), run), loss(run / "loss.csv"), time_memory(run / "timemem.csv"), log(run / "train.log") {}

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

void RunFolder::go_back_to(RowCounts rows) {
  if (!files_) return;
  files_->loss.keep_lines(1 + rows.loss);
  files_->time_memory.keep_lines(1 + rows.time_memory);
  rows_ = rows;
  for (const std::filesystem::path& folder : {path_, checkpoints(), states()}) remove_unfinished_files(folder);
}

void RunFolder::write_config(const RunConfig& config, const RunSummary& summary) {
  if (!files_) return;
  std::string devices;
  for (const std::string& device : summary.devices) devices += (devices.empty() ? "" : ", ") + quoted(device);
  write_file_atomically(path_ / "config.yaml",
                        concat_text(to_yaml(config), "summary:\n  parameter_count: ", summary.parameter_count, "\n  num_workers: ", summary.num_workers,
                                    "\n  devices: [", devices, "]\n  training_start: ", quoted(summary.training_start),
                                    "\n  training_end: ", quoted(summary.training_end), "\n  error: ", quoted(summary.error), "\n"));
}

RunConfig read_config_of_run(const std::filesystem::path& folder, const BlockRegistry& registry, const Overrides& overrides) {
  const std::filesystem::path file = checked_folder(folder) / "config.yaml";
  const IoConfig before = read_run_config(file, registry).io;
  RunConfig config = read_run_config(file, registry, overrides);
  const auto check = [&](const char* field, const std::string& found, const std::string& wish) {
    require<ConfigError>(found == wish, "io.", field, ": expected no other value than ", quoted(wish), ", since a run stays in its folder, got ", quoted(found));
  };
  check("name_model", config.io.name_model, before.name_model);
  check("output_dir", config.io.output_dir, before.output_dir);
  check("run_id", config.io.run_id.value_or(""), before.run_id.value_or(""));
  const std::optional<std::string> start = config.resume ? config.resume->resumed_from : std::nullopt;
  config.resume.reset();
  if (start) config.resume.emplace().checkpoint_file = *start;
  return config;
}

void RunFolder::log(std::string_view line) {
  if (files_) files_->log.append(concat_text(format_now(), " ", line, "\n"));
}

}  // namespace mblm
