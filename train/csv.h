// The tables of a run's folder, with the columns of the Python package.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mblm {

// A row of loss.csv. -1 stands for what a row of its kind does not have.
struct LossRow {
  std::int64_t gpu_rank = 0;
  std::string timestamp = {};      // local time, "2024-01-31 12:00:00.123456"
  std::int64_t elements_seen = -1;
  std::string_view kind = {};      // train, valid, test
  std::int64_t epoch = -1, batch = -1, cum_batch = -1;
  double loss = 0;
  double lr = -1, avg_grad = -1, avg_grad_clipped = -1;

  LossRow with_loss(std::string_view row_kind, double value) const {
    LossRow row = *this;
    row.kind = row_kind;
    row.loss = value;
    return row;
  }
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

}  // namespace mblm
