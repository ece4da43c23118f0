#include "program/text_chart.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::size_t narrowest = 30, label_width = 10;
constexpr std::size_t main_rows = 16, small_rows = 6;

// ANSI codes of the runs' colours.
const char* colour_code(std::size_t run) {
  constexpr std::array<const char*, 6> codes{"34", "33", "32", "35", "36", "31"};
  return codes[run % codes.size()];
}

// How the curves of the runs look.
struct Look {
  TextStyleOptions options;
  bool letters = false;  // several runs without colours

  bool dots() const { return options.unicode && !letters; }
  char line(std::size_t run) const { return letters ? static_cast<char>('a' + run % 26) : '*'; }
  char mark(std::size_t run) const { return letters ? static_cast<char>('A' + run % 26) : 'o'; }
  std::string coloured(std::size_t run, const std::string& text) const {
    return options.colours ? concat_text("\x1b[", colour_code(run), "m", text, "\x1b[0m") : text;
  }
};

// The plotting area: each cell shows a character, or dots that curves add to.
class Grid {
 public:
  Grid(std::size_t columns, std::size_t rows, const Look& look) : columns_(columns), rows_(rows), look_(look), cells_(columns * rows) {}

  // Coordinates from 0 to 1, from the lower left corner. Points outside are left out.
  void line(CurvePoint from, CurvePoint to, std::size_t run) {
    const double steps = std::max({1.0, std::ceil(std::fabs(to.x - from.x) * dots_across()), std::ceil(std::fabs(to.y - from.y) * dots_down())});
    for (double i = 0; i <= steps; ++i) point({from.x + (to.x - from.x) * i / steps, from.y + (to.y - from.y) * i / steps}, run);
  }
  void mark(CurvePoint at, std::size_t run) {
    if (Cell* cell = cell_at(at)) *cell = {.mark = look_.mark(run), .run = run};
  }
  void point(CurvePoint at, std::size_t run) {
    Cell* cell = cell_at(at);
    if (cell == nullptr || cell->mark != 0) return;
    cell->run = run;
    if (!look_.dots()) {
      cell->character = look_.line(run);
      return;
    }
    constexpr unsigned bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cell->dots |= bits[index(1 - at.y, rows_ * 4) % 4][index(at.x, columns_ * 2) % 2];
  }

  std::string row(std::size_t row) const {
    std::string text;
    for (std::size_t column = 0; column < columns_; ++column) {
      const Cell& cell = cells_[row * columns_ + column];
      if (cell.mark != 0) text += look_.coloured(cell.run, std::string(1, cell.mark));
      else if (cell.dots != 0) text += look_.coloured(cell.run, braille(cell.dots));
      else if (cell.character != 0) text += look_.coloured(cell.run, std::string(1, cell.character));
      else text += ' ';
    }
    while (text.ends_with(' ')) text.pop_back();
    return text;
  }

 private:
  struct Cell {
    char mark = 0, character = 0;
    unsigned dots = 0;
    std::size_t run = 0;
  };

  static std::size_t index(double share, std::size_t count) {
    return std::min(count - 1, static_cast<std::size_t>(std::max(0.0, share) * static_cast<double>(count)));
  }
  // U+2800 + dots in UTF-8.
  static std::string braille(unsigned dots) {
    return {static_cast<char>(0xe2), static_cast<char>(0xa0 + (dots >> 6)), static_cast<char>(0x80 + (dots & 0x3f))};
  }
  double dots_across() const { return static_cast<double>(columns_ * 2); }
  double dots_down() const { return static_cast<double>(rows_ * 4); }
  Cell* cell_at(CurvePoint at) {
    if (!(at.x >= 0 && at.x <= 1 && at.y >= 0 && at.y <= 1)) return nullptr;
    return &cells_[index(1 - at.y, rows_) * columns_ + index(at.x, columns_)];
  }

  std::size_t columns_, rows_;
  const Look& look_;
  std::vector<Cell> cells_;
};

void draw(Grid& grid, const Series& series, const Chart& chart, const Axis& x, const Axis& y, std::size_t columns) {
  const Curve points = reduced(series.points, x, 2 * columns);
  const CurvePoint* before = nullptr;
  CurvePoint last, place;
  for (const CurvePoint& point : points) {
    if (!std::isfinite(point.y) || (chart.logarithmic && !(point.y > 0))) {
      before = nullptr;
      continue;
    }
    place = {x.place(point.x), y.place(point.y)};
    if (series.style == LineStyle::Marked) grid.mark(place, series.run);
    else if (before != nullptr) grid.line(*before, place, series.run);
    else grid.point(place, series.run);
    last = place;
    before = &last;
  }
}

std::string padded_left(const std::string& text, std::size_t width) { return text.size() < width ? std::string(width - text.size(), ' ') + text : text; }

std::string cut(const std::string& text, std::size_t width) { return text.size() <= width ? text : text.substr(0, width); }

// The labels of the ticks below the plot, as many as fit.
std::string x_labels(const Axis& x, std::size_t columns) {
  std::string line(columns, ' ');
  std::size_t used = 0;
  for (const Tick& tick : x.ticks) {
    const auto place = static_cast<std::size_t>(x.place(tick.value) * static_cast<double>(columns - 1));
    const std::size_t half = tick.label.size() / 2;
    std::size_t start = place > half ? place - half : 0;
    start = std::min(start, columns - std::min(columns, tick.label.size()));
    if (start < used || start + tick.label.size() > columns) continue;
    line.replace(start, tick.label.size(), tick.label);
    used = start + tick.label.size() + 2;
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

void add_chart(std::string& out, const Chart& chart, std::size_t rows, const Look& look) {
  const std::size_t columns = look.options.width - label_width - 2;
  out += "\n" + cut(chart.title + (chart.series.empty() ? ": not recorded" : ""), look.options.width) + "\n";
  if (chart.series.empty()) return;
  const Axis x = x_axis(chart, static_cast<int>(std::max<std::size_t>(2, columns / 14))), y = y_axis(chart, static_cast<int>(rows / 2 + 1));
  Grid grid(columns, rows, look);
  for (const Series& series : chart.series)
    if (series.style != LineStyle::Faint) draw(grid, series, chart, x, y, columns);
  std::vector<std::string> labels(rows);
  for (const Tick& tick : y.ticks) {
    const double from_top = 1 - y.place(tick.value);
    labels[std::min(rows - 1, static_cast<std::size_t>(std::max(0.0, from_top * static_cast<double>(rows))))] = tick.label;
  }
  const bool unicode = look.options.unicode;
  for (std::size_t row = 0; row < rows; ++row)
    out += padded_left(labels[row], label_width) + (unicode ? (labels[row].empty() ? " \u2502" : " \u2524") : (labels[row].empty() ? " |" : " +")) + grid.row(row) + "\n";
  std::string axis;
  for (std::size_t i = 0; i < columns; ++i) axis += unicode ? "\u2500" : "-";
  out += std::string(label_width + 1, ' ') + (unicode ? "\u2514" : "+") + axis + "\n";
  out += std::string(label_width + 2, ' ') + x_labels(x, columns) + "\n";
}

std::string printable(std::string name) {
  for (char& c : name)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  return name;
}

void add_legend(std::string& out, const std::vector<RunCurves>& runs, const Look& look) {
  const std::vector<std::string> names = run_names(runs);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::string line = look.letters ? std::string(1, look.line(i)) : look.options.unicode ? "\u2501" : "*";
    const bool validated = !runs[i].validation.empty();
    const auto best = std::min_element(runs[i].validation.begin(), runs[i].validation.end(), [](const CurvePoint& a, const CurvePoint& b) { return a.y < b.y; });
    std::string text = printable(names[i]) + ", training (smoothed)";
    std::string rest = validated ? concat_text("  ", std::string(1, look.mark(i)), " validation, best ", std::round(best->y * 1e3) / 1e3) : std::string();
    const std::size_t width = look.options.width;
    if (2 + text.size() + rest.size() > width) text = printable(names[i]);
    if (2 + text.size() + rest.size() > width) rest = validated ? concat_text("  ", std::string(1, look.mark(i)), " validation") : std::string();
    out += look.coloured(i, line + " " + cut(text, width - 2 - std::min(width - 2, rest.size())) + rest) + "\n";
  }
}

}  // namespace

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string letters;
    for (const char* c = value; *c != '\0'; ++c)
      if (std::isalnum(static_cast<unsigned char>(*c)) != 0) letters += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
    return letters.find("utf8") != std::string::npos;
  }
  return false;
}

std::string text_charts(const std::vector<RunCurves>& runs, const TextStyleOptions& options) {
  Look look{options, runs.size() > 1 && !options.colours};
  look.options.width = std::max(options.width, narrowest);
  const std::vector<Chart> charts = charts_of(runs);
  std::string out;
  add_legend(out, runs, look);
  for (const Chart& chart : charts) add_chart(out, chart, &chart == charts.data() ? main_rows : small_rows, look);
  out += padded_left("bytes seen", look.options.width) + "\n";
  return out;
}

}  // namespace mblm
