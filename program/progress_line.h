// What a person watches while something runs: one line, redrawn in place on a terminal, else written anew each time.
#pragma once

#include <string>
#include <string_view>

#include "train/progress.h"

namespace mblm {

class ProgressLine {
 public:
  // Writes to the file descriptor. On a terminal that can redraw (TERM is not dumb) the line is cut to its width.
  explicit ProgressLine(int descriptor);
  ~ProgressLine() { finish(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Seconds between two lines that a person, or a log file, wants to see.
  double interval() const { return redraws_ ? 0.2 : 10; }
  bool redraws() const { return redraws_; }

  void show(std::string_view line);   // in place of the line before
  void note(std::string_view line);   // a line that stays, above the one that is redrawn
  void clear();                       // takes the line away
  void finish();                      // the last line stays

 private:
  void write(std::string_view text) const;
  std::string fitted(std::string_view line) const;

  int descriptor_;
  bool redraws_, colours_;
  std::string shown_;
};

// step 120/1100  11 %  loss 1.612  2.326 bits/byte  lr 9.8e-04  norm 0.71  61.2 kB/s  3:05 left
std::string progress_text(const TrainingProgress& progress);

// 61.2 kB, 1.4 MB; and 3:05, 2:03:05.
std::string format_bytes(double bytes);
std::string format_duration(double seconds);

}  // namespace mblm
