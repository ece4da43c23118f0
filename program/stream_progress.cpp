#include "program/stream_progress.h"

#include <unistd.h>

#include <utility>

#include "engine/error.h"

namespace mblm {

StreamProgress::StreamProgress(std::string name, std::optional<std::int64_t> total) : name_(std::move(name)), total_(total), line_(STDERR_FILENO) {}

// text.txt: 1.2 MB of 4.1 MB  29 %  61.2 kB/s  0:47 left
void StreamProgress::show(std::int64_t done) {
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

}  // namespace mblm
