// The folder of a run: config.yaml, loss.csv, timemem.csv, train.log, checkpoints/ and state/.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/io/file.h"
#include "mblm/config/config.h"
#include "train/run_lock.h"

namespace mblm {

// The current local time, "2024-01-31 12:00:00.123456", with `separator` between date and time.
std::string format_now(char separator = ' ');

// The run id: `job_id`, or io.run_id, or the seconds since 1970. Throws ConfigError if it cannot be part of a folder name.
std::string run_id_of(const IoConfig& config, const std::string& job_id, std::chrono::system_clock::time_point start);

// The `summary` section of config.yaml.
struct RunSummary {
  std::int64_t parameter_count = 0, num_workers = 1;
  std::vector<std::string> devices = {};
  std::string best_checkpoint = {};                           // empty if there is none
  std::int64_t next_epoch_index = 0, next_batch_index = 0;   // place of the next micro-batch
  std::string training_start = {}, training_end = {}, error = {};  // empty if not set
};

// Number of rows in the tables, without headers.
struct RowCounts {
  std::int64_t loss = 0, time_memory = 0;
};

// A row of loss.csv. -1 means that rows of this kind have no value.
struct LossRow {
  std::int64_t gpu_rank = 0;
  std::string timestamp = {};      // local time, "2024-01-31 12:00:00.123456"
  std::int64_t elements_seen = -1;
  std::string_view kind = {};      // train, valid, test
  std::int64_t epoch = -1, batch = -1, cum_batch = -1;
  double loss = 0;
  double lr = -1, avg_grad = -1, avg_grad_clipped = -1;
  // Not in the Python package: norm of the last step's gradient before clipping, speed since a previous row, a second ago or more, average of the
  // last steps.
  double grad_norm = -1, bytes_per_second = -1, smoothed_loss = -1;
};

// A row of timemem.csv: seconds, and memory in GiB.
struct TimeMemoryRow {
  std::int64_t cum_batch = -1, num_items = 0;
  std::string_view kind = {};
  double fw_time = 0;
  std::optional<double> bw_time = {};
  double allocated = 0, allocated_max = 0, reserved = 0, reserved_max = 0, total = 0;
};

inline constexpr std::string_view loss_header =
    "gpu_rank,timestamp,elements_seen,kind,epoch,batch,cum_batch,loss,lr,avg_grad,avg_grad_clipped,grad_norm,bytes_per_second,smoothed_loss\n";
inline constexpr std::string_view time_memory_header =
    "cum_batch,num_items,kind,fw_time,bw_time,allocated,allocated_max,reserved,reserved_max,total\n";

// The shortest text that parses to the same number.
std::string shortest_text(double number);

// Formats a row as one line with a final newline. Numbers have their shortest text.
std::string to_csv(const LossRow& row);
std::string to_csv(const TimeMemoryRow& row);

// A file for appending whole lines. Each append is one write, so that readers see whole lines. Throws FileError.
class AppendFile {
 public:
  // Opens the file, creating it if necessary.
  explicit AppendFile(const std::filesystem::path& path);
  void append(std::string_view text);
  // Writes the appended lines to disk (fsync), if the file system supports it.
  void flush();
  bool is_durable() const;  // whether flush can write to disk
  // Truncates the file after `lines` lines. Throws FileError if it has fewer.
  void keep_lines(std::int64_t lines);
  void check_lines(std::int64_t lines) const { end_of(lines); }  // throws the same error
  // Replaces the content by `edit(content)`, atomically, unless they are equal.
  void rewrite(const std::function<std::string(std::string_view)>& edit);

 private:
  std::size_t end_of(std::int64_t lines) const;  // in bytes

  std::filesystem::path path_;
  FileDescriptor file_;
};

// Locked until destruction.
class RunFolder {
 public:
  // `output_dir/name_model_RUNID`.
  static std::filesystem::path path_for(const IoConfig& config, const std::string& run_id);
  // Throws FileError if that folder exists, or if the constructor below could not create it. Creates nothing.
  static void check_available(const IoConfig& config, const std::string& run_id);

  // Creates `output_dir/name_model_RUNID` with checkpoints/ and state/. Throws FileError if it exists or cannot be created; it creates
  // nothing then. A folder that a killed program left before it wrote config.yaml counts as new.
  RunFolder(const IoConfig& config, const std::string& run_id);
  // Opens an existing run folder to resume the run. Throws FileError if it is not a run folder or if another process uses it.
  explicit RunFolder(std::filesystem::path path);
  // The folder for a worker that does not write: functions that change the folder have no effect.
  static RunFolder for_reading(std::filesystem::path path) { return RunFolder(std::move(path), std::nullopt); }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path states() const { return path_ / "state"; }

  RowCounts rows() const { return rows_; }
  // Writes all rows and log lines to disk (fsync).
  void flush();
  // Truncates the tables after `rows` rows and removes unfinished files. Throws FileError if a table has fewer rows; nothing is changed
  // then. Adds the columns that the loss table of an earlier version does not have, with the value -1.
  void go_back_to(RowCounts rows);
  void check_rows(RowCounts rows) const;  // throws the same error, changes nothing

  // What the file system does not support: locks, flushing. The run continues without.
  std::vector<std::string> warnings() const;

  // Replaces config.yaml atomically.
  void write_config(const RunConfig& config, const RunSummary& summary);
  void write(const LossRow& row);
  void write(const TimeMemoryRow& row);
  // Appends a line to train.log, starting with the time.
  void log(std::string_view line);

 private:
  struct Files {
    RunLock lock;
    AppendFile loss, time_memory, log;
    Files(RunLock held, const std::filesystem::path& run);
  };
  void go_back_to_start();
  RunFolder(std::filesystem::path path, std::nullopt_t) : path_(std::move(path)) {}

  std::filesystem::path path_;
  std::optional<Files> files_;  // not set for workers that do not write
  RowCounts rows_;
};

// Reads the config of a run and applies `overrides`. `resume` is set only if the run started from a checkpoint.
// Throws FileError, and ConfigError if an override changes a field that determines the run folder.
RunConfig read_config_of_run(const std::filesystem::path& folder, const BlockRegistry& registry, const Overrides& overrides = {});

}  // namespace mblm
