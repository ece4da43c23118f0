// The progress of work on a stream of bytes, on a terminal only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "program/progress_line.h"

namespace mblm {

class StreamProgress {
 public:
  // `total`: bytes of the stream, where they are known.
  StreamProgress(std::string name, std::optional<std::int64_t> total);

  void show(std::int64_t done);
  void clear() { line_.clear(); }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::string name_;
  std::optional<std::int64_t> total_;
  ProgressLine line_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double shown_ = 0;  // seconds
};

}  // namespace mblm
