// The folder of a run: config.yaml, loss.csv, timemem.csv, train.log, checkpoints/ and state/.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/io/file.h"
#include "mblm/config/config.h"
#include "train/run_lock.h"

namespace mblm {

// The local time now, "2024-01-31 12:00:00.123456"; `separator` is between date and time.
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

// A row of loss.csv. -1 stands for what a row of its kind does not have.
struct LossRow {
  std::int64_t gpu_rank = 0;
  std::string timestamp = {};      // local time, "2024-01-31 12:00:00.123456"
  std::int64_t elements_seen = -1;
  std::string_view kind = {};      // train, valid, test
  std::int64_t epoch = -1, batch = -1, cum_batch = -1;
  double loss = 0;
  double lr = -1, avg_grad = -1, avg_grad_clipped = -1;
};

// A row of timemem.csv: seconds, and memory in GiB.
struct TimeMemoryRow {
  std::int64_t cum_batch = -1, num_items = 0;
  std::string_view kind = {};
  double fw_time = 0;
  std::optional<double> bw_time = {};
  double allocated = 0, allocated_max = 0, reserved = 0, reserved_max = 0, total = 0;
};

inline constexpr std::string_view loss_header = "gpu_rank,timestamp,elements_seen,kind,epoch,batch,cum_batch,loss,lr,avg_grad,avg_grad_clipped\n";
inline constexpr std::string_view time_memory_header =
    "cum_batch,num_items,kind,fw_time,bw_time,allocated,allocated_max,reserved,reserved_max,total\n";

// The shortest text that reads back as the same number.
std::string shortest_text(double number);

// One line with its end. Numbers are their shortest text.
std::string to_csv(const LossRow& row);
std::string to_csv(const TimeMemoryRow& row);

// A file that grows by whole lines. Each append is one write at the end of the file, so that a reader sees whole lines. Errors
// are FileErrors.
class AppendFile {
 public:
  // Opens the file, and makes it when it is not there.
  explicit AppendFile(const std::filesystem::path& path);
  void append(std::string_view text);
  // What was appended is on disk then.
  void flush();
  // Cuts the file after so many lines. Throws FileError when it has fewer.
  void keep_lines(std::int64_t lines);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
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
