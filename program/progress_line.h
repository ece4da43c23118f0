// The progress of a command in one line: redrawn in place on a terminal, otherwise written as a new line each time.
#pragma once

#include <string>
#include <string_view>

#include "train/progress.h"

namespace mblm {

class ProgressLine {
 public:
  // Writes to the file descriptor. Cuts lines to the width of a terminal that can redraw (TERM is not dumb).
  explicit ProgressLine(int descriptor);
  ~ProgressLine() { finish(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Seconds between two updates: short on a terminal, long in a log file.
  double interval() const { return redraws_ ? 0.2 : 10; }
  bool redraws() const { return redraws_; }
  // Number of characters that fit: one less than the terminal has columns, unlimited without a terminal.
  std::size_t width() const;

  void show(std::string_view line);   // replaces the previous line
  void note(std::string_view line);   // writes a permanent line above the one that is redrawn
  void clear();                       // erases the line
  void finish();                      // keeps the last line and moves to the next

 private:
  void write(std::string_view text) const;
  std::string fitted(std::string_view line) const;

  int descriptor_;
  bool redraws_, colours_;
  std::string shown_;
};

// step 120/1100  11 %  loss 1.612  smoothed 1.701  2.454 bits/byte  lr 9.8e-04  norm 0.71  61.2 kB/s  3:05 left
// In less than the whole width the parts are dropped in this order: gradient norm, learning rate, speed, bits per byte, percent, the
// batch's loss, step, smoothed loss. The time left always remains.
std::string progress_text(const TrainingProgress& progress, std::size_t width);

std::string format_bytes(double bytes);         // 61.2 kB, 1.4 MB
std::string format_duration(double seconds);    // 3:05, 2:03:05

}  // namespace mblm
