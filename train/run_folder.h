// The folder of a run: config.yaml, loss.csv, timemem.csv, train.log and checkpoints/.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mblm/config.h"
#include "train/append_file.h"
#include "train/csv.h"

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

class RunFolder {
 public:
  // Makes `output_dir/name_model_RUNID` with checkpoints/ in it. Throws FileError when it is there already or cannot be made.
  RunFolder(const IoConfig& config, const std::string& run_id);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }

  // Replaces config.yaml, atomically.
  void write_config(const RunConfig& config, const RunSummary& summary);
  void write(const LossRow& row) { loss_.append(to_csv(row)); }
  void write(const TimeMemoryRow& row) { time_memory_.append(to_csv(row)); }
  // A line of train.log, with the time in front.
  void log(std::string_view line);

 private:
  std::filesystem::path path_;
  AppendFile loss_, time_memory_, log_;
};

}  // namespace mblm
