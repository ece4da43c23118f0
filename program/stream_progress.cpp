#include "program/stream_progress.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/error.h"
#include "program/interrupt.h"
#include "program/program.h"

namespace mblm {

int exit_status(const Interrupted& interrupted) {
  const auto* name = std::find_if(std::begin(stop_signals), std::end(stop_signals), [&](const StopSignal& s) { return s.number == interrupted.signal; });
  write_note(concat_text("stopped by ", name->name, "; no file was written"));
  return 128 + interrupted.signal;
}

StreamProgress::StreamProgress(std::string name, std::optional<std::int64_t> total) : name_(std::move(name)), total_(total), line_(STDERR_FILENO) {}

// text.txt: 1.2 MB of 4.1 MB  29 %  61.2 kB/s  0:47 left
void StreamProgress::show(std::int64_t done) {
  if (InterruptScope::signal() != 0) {
    line_.clear();
    throw Interrupted{InterruptScope::signal()};
  }
  const double now = seconds();
  if (!line_.redraws() || now - shown_ < line_.interval()) return;
  shown_ = now;
  const auto bytes = static_cast<double>(done);
  std::string text = concat_text(name_, ": ", format_bytes(bytes));
  if (total_ && *total_ > 0) text += concat_text(" of ", format_bytes(static_cast<double>(*total_)), "  ", 100 * done / *total_, " %");
  text += concat_text("  ", format_bytes(bytes / now), "/s");
  if (total_ && done > 0 && done <= *total_) text += concat_text("  ", format_duration(now * static_cast<double>(*total_ - done) / bytes), " left");
  line_.show(text);
}

void StreamProgress::finish(const std::string& result) {
  if (!line_.redraws()) return;
  line_.clear();
  line_.note(result);
}

}  // namespace mblm
