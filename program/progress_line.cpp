#include "program/progress_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <limits>
#include <sstream>
#include <vector>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::string_view erase_line = "\r\x1b[K", faint = "\x1b[2m", plain = "\x1b[0m";

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

bool can_redraw(int descriptor) {
  const char* terminal = std::getenv("TERM");
  return isatty(descriptor) != 0 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

std::size_t columns(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressLine::ProgressLine(int descriptor) : descriptor_(descriptor), redraws_(can_redraw(descriptor)), colours_(redraws_ && !is_set("NO_COLOR")) {}

void ProgressLine::write(std::string_view text) const {
  [[maybe_unused]] const ssize_t written = ::write(descriptor_, text.data(), text.size());  // one write per line; a failure cannot be reported
}

std::size_t ProgressLine::width() const { return redraws_ ? columns(descriptor_) - 1 : std::numeric_limits<std::size_t>::max(); }

// Cuts the line to the terminal's width: a wrapped line could not be redrawn.
std::string ProgressLine::fitted(std::string_view line) const {
  const std::string_view cut = line.substr(0, width());
  std::ostringstream out;
  out << erase_line << (colours_ ? faint : "") << cut << (colours_ ? plain : "");
  return std::move(out).str();
}

void ProgressLine::show(std::string_view line) {
  if (!redraws_) return write(std::string(line) + "\n");
  shown_ = line;
  write(fitted(line));
}

void ProgressLine::note(std::string_view line) {
  if (shown_.empty()) return write(std::string(line) + "\n");
  write(std::string(erase_line) + std::string(line) + "\n" + fitted(shown_));
}

void ProgressLine::clear() {
  if (!shown_.empty()) write(erase_line);
  shown_.clear();
}

void ProgressLine::finish() {
  if (!shown_.empty()) write("\n");
  shown_.clear();
}

std::string format_bytes(double bytes) {
  constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(units)) bytes /= 1000, ++unit;
  std::ostringstream out;
  out << std::fixed << std::setprecision(unit == 0 || bytes >= 99.95 ? 0 : 1) << bytes << ' ' << units[unit];
  return std::move(out).str();
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const long long all = std::llround(seconds), hours = all / 3600, minutes = all / 60 % 60;
  char text[48];
  if (hours > 0) std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", hours, minutes, all % 60);
  else std::snprintf(text, sizeof text, "%lld:%02lld", minutes, all % 60);
  return text;
}

std::string progress_text(const TrainingProgress& p, std::size_t width) {
  struct Part {
    int rank;  // the highest is dropped first
    std::string text;
  };
  const auto number = [](double value, int digits) { return concat_text(std::fixed, std::setprecision(digits), value); };
  const double share = p.micro_steps > 0 ? static_cast<double>(p.micro_step) / static_cast<double>(p.micro_steps) : 1;
  std::vector<Part> parts{{2, concat_text("step ", p.step, '/', p.steps)},
                          {4, concat_text(static_cast<int>(100 * share), " %")},
                          {p.smoothed_loss ? 3 : 1, "loss " + number(p.loss, 3)}};
  if (p.smoothed_loss) parts.push_back({1, "smoothed " + number(*p.smoothed_loss, 3)});
  parts.push_back({5, number(p.bits_per_byte, 3) + " bits/byte"});
  parts.push_back({7, concat_text(std::scientific, std::setprecision(1), "lr ", p.learning_rate)});
  if (p.gradient_norm) parts.push_back({8, concat_text(std::setprecision(2), "norm ", *p.gradient_norm)});
  parts.push_back({6, format_bytes(p.bytes_per_second) + "/s"});
  parts.push_back({0, format_duration(p.seconds_left) + " left"});

  const auto line = [&] {
    std::string text;
    for (const Part& part : parts) text += (text.empty() ? "" : "  ") + part.text;
    return text;
  };
  while (parts.size() > 1 && line().size() > width)
    parts.erase(std::max_element(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.rank < b.rank; }));
  return line();
}

}  // namespace mblm
