// The progress of work on a stream of bytes, on a terminal only, and its end by a signal.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "program/progress_line.h"

namespace mblm {

// Thrown after one of the signals of an InterruptScope (program/interrupt.h), so that unfinished files are removed.
struct Interrupted {
  int signal;
};
// Writes a note that nothing was written. Returns the exit status.
int exit_status(const Interrupted& interrupted);

class StreamProgress {
 public:
  // `total`: bytes of the stream, where they are known.
  StreamProgress(std::string name, std::optional<std::int64_t> total);

  // Throws Interrupted.
  void show(std::int64_t done);
  // On a terminal replaces the line by the result of the work.
  void finish(const std::string& result);
  void clear() { line_.clear(); }

 private:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

  std::string name_;
  std::optional<std::int64_t> total_;
  ProgressLine line_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double shown_ = 0;  // seconds
};

}  // namespace mblm
