// The folder of a run: config.yaml, loss.csv, timemem.csv, train.log, checkpoints/ and state/.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mblm/config/config.h"
#include "train/append_file.h"
#include "train/csv.h"
#include "train/run_lock.h"

namespace mblm {

// Local time, "2024-01-31 12:00:00.123456"; `separator` stands between date and time.
std::string format_time(std::chrono::system_clock::time_point time, char separator = ' ');
std::string format_now(char separator = ' ');

// RUNID: `job_id`, else io.run_id, else seconds since 1970. Throws ConfigError for one that is not the name of a folder.
std::string run_id_of(const IoConfig& config, const std::string& job_id, std::chrono::system_clock::time_point start);

// What config.yaml says beside the config.
struct RunSummary {
  std::int64_t parameter_count = 0, num_workers = 1;
  std::vector<std::string> devices = {};
  std::string training_start = {}, training_end = {}, error = {};  // empty: not yet, none
};

// Rows written to the tables, without their headers.
struct RowCounts {
  std::int64_t loss = 0, time_memory = 0;
};

// Locked as long as this lives.
class RunFolder {
 public:
  // Makes `output_dir/name_model_RUNID` with checkpoints/ and state/ in it. Throws FileError when it is there already or cannot
  // be made.
  RunFolder(const IoConfig& config, const std::string& run_id);
  // Opens the folder of a run that goes on. Throws FileError when it is none, or when another program works on it.
  explicit RunFolder(std::filesystem::path path);
  // The folder for a worker that does not write: all that changes it does nothing.
  static RunFolder for_reading(std::filesystem::path path) { return RunFolder(std::move(path), std::nullopt); }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path states() const { return path_ / "state"; }

  RowCounts rows() const { return rows_; }
  // The rows and lines written so far are on disk then.
  void flush();
  // Cuts the tables after so many rows, whatever follows, and removes files that were not finished. Throws FileError when there
  // are fewer rows.
  void go_back_to(RowCounts rows);

  // Replaces config.yaml, atomically.
  void write_config(const RunConfig& config, const RunSummary& summary);
  void write(const LossRow& row);
  void write(const TimeMemoryRow& row);
  // A line of train.log, with the time in front.
  void log(std::string_view line);

 private:
  struct Files {
    RunLock lock;
    AppendFile loss, time_memory, log;
    explicit Files(const std::filesystem::path& run);
  };
  RunFolder(std::filesystem::path path, std::nullopt_t) : path_(std::move(path)) {}

  std::filesystem::path path_;
  std::optional<Files> files_;  // none: nothing is written
  RowCounts rows_;
};

// The config of the run in a folder, with other values for the fields that `overrides` names. Its `resume` is only there where
// the run started from a checkpoint, and names that. Throws FileError, and ConfigError for a field that places the folder.
RunConfig read_config_of_run(const std::filesystem::path& folder, const BlockRegistry& registry, const Overrides& overrides = {});

}  // namespace mblm
