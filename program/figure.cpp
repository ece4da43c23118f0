#include "program/figure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

namespace mblm {
namespace {

constexpr double figure_width = 960, margin = 16, gap = 28, legend_row = 20;
constexpr double main_height = 330, small_height = 210;
constexpr double left = 64, below = 36, above = 26;  // room for the labels around a plot
constexpr double sample_width = 26;                  // of a line in the legend
const std::string grid_colour = "#e6e6e6", axis_colour = "#8c8c8c";

double text_width(std::string_view text) { return 6.7 * static_cast<double>(text.size()); }  // estimate for 12 pixels; never too small for names

struct LegendEntry {
  std::string text;
  std::size_t run = 0;
  std::optional<LineStyle> style = {};  // unset: a run, shown by its colour
  double x = 0, y = 0;
};

// The runs, if there are several, then the styles.
std::vector<LegendEntry> legend_of(const std::vector<RunCurves>& runs) {
  std::vector<LegendEntry> entries;
  const std::vector<std::string> names = run_names(runs);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    entries.push_back({names[i], i});
    if (entries.back().text.size() > 100) entries.back().text = "..." + names[i].substr(names[i].size() - 97);
  }
  const auto any = [&](auto&& has) { return std::any_of(runs.begin(), runs.end(), has); };
  if (any([](const RunCurves& run) { return !run.training.empty(); })) {
    entries.push_back({"training, single batches", 0, LineStyle::Faint});
    entries.push_back({"training, smoothed", 0, LineStyle::Solid});
  }
  if (any([](const RunCurves& run) { return !run.validation.empty(); })) entries.push_back({"validation", 0, LineStyle::Marked});
  double x = margin, y = margin + 10;
  bool styles = false;
  for (LegendEntry& entry : entries) {
    const double width = sample_width + 8 + text_width(entry.text) + 20;
    const bool new_group = entry.style.has_value() && !std::exchange(styles, entry.style.has_value());
    if (x > margin && (new_group || x + width > figure_width - margin)) {
      x = margin;
      y += legend_row;
    }
    entry.x = x;
    entry.y = y;
    x += width;
  }
  return entries;
}

double legend_height(const std::vector<RunCurves>& runs) { return legend_of(runs).back().y + legend_row / 2; }

Pen pen_of(LineStyle style, const std::string& colour, bool large) {
  switch (style) {
    case LineStyle::Faint: return {.colour = colour, .width = 1, .opacity = 0.3};
    case LineStyle::Marked: return {.colour = colour, .width = 1.3, .dashed = true};
    case LineStyle::Solid: break;
  }
  return {.colour = colour, .width = large ? 2.0 : 1.4};
}

void draw_sample(Canvas& canvas, const LegendEntry& entry, const std::string& colour) {
  const double middle = entry.y - 4, end = entry.x + sample_width;
  const Box around{entry.x - 2, middle - 6, sample_width + 4, 12};
  if (!entry.style) return canvas.fill({entry.x, middle - 5, sample_width, 10}, colour);
  canvas.path({{entry.x, middle}, {end, middle}}, pen_of(*entry.style, colour, true), around);
  if (entry.style == LineStyle::Marked) canvas.dot({(entry.x + end) / 2, middle}, 3, colour);
}

void draw_legend(Canvas& canvas, const std::vector<RunCurves>& runs) {
  for (const LegendEntry& entry : legend_of(runs)) {
    const bool neutral = entry.style && runs.size() > 1;  // the styles of all runs
    draw_sample(canvas, entry, neutral ? "#444444" : run_colour(entry.run));
    canvas.text({entry.x + sample_width + 8, entry.y}, entry.text, {});
  }
}

class ChartDrawing {
 public:
  ChartDrawing(Canvas& canvas, const Chart& chart, const Box& box, bool large)
      : canvas_(canvas), chart_(chart), large_(large), plot_{box.x + left, box.y + above, box.width - left, box.height - above - below} {}

  void draw() {
    canvas_.text({plot_.x, plot_.y - 10}, chart_.title, {.size = large_ ? 15.0 : 13.0, .bold = true});
    if (chart_.series.empty()) {
      frame();
      canvas_.text({plot_.x + plot_.width / 2, plot_.y + plot_.height / 2}, "not recorded", {.colour = axis_colour, .anchor = Anchor::Middle});
      return;
    }
    x_ = x_axis(chart_, large_ ? 9 : 4);
    y_ = y_axis(chart_, large_ ? 8 : 5);
    grid();
    frame();
    for (const Series& series : chart_.series) curve(series);
    canvas_.text({plot_.right(), plot_.bottom() + 33}, "bytes seen", {.size = 11, .colour = "#666666", .anchor = Anchor::End});
  }

 private:
  Point at(double x, double y) const { return {plot_.x + x_.place(x) * plot_.width, plot_.bottom() - y_.place(y) * plot_.height}; }

  void line(Point from, Point to, const std::string& colour) {
    canvas_.path({from, to}, {.colour = colour}, {plot_.x - 6, plot_.y - 6, plot_.width + 12, plot_.height + 12});
  }

  void grid() {
    for (const Tick& tick : y_.ticks) {
      const double y = at(0, tick.value).y;
      line({plot_.x, y}, {plot_.right(), y}, grid_colour);
      canvas_.text({plot_.x - 8, y + 4}, tick.label, {.size = 11, .anchor = Anchor::End});
    }
    for (const Tick& tick : x_.ticks) {
      const double x = at(tick.value, y_.minimum).x;
      line({x, plot_.y}, {x, plot_.bottom()}, grid_colour);
      const bool at_edge = x > plot_.right() - 4;
      canvas_.text({at_edge ? plot_.right() : x, plot_.bottom() + 17}, tick.label, {.size = 11, .anchor = at_edge ? Anchor::End : Anchor::Middle});
    }
  }

  void frame() {
    line({plot_.x, plot_.y}, {plot_.x, plot_.bottom()}, axis_colour);
    line({plot_.x, plot_.bottom()}, {plot_.right(), plot_.bottom()}, axis_colour);
  }

  // A value that is not finite interrupts the line.
  void curve(const Series& series) {
    const std::string& colour = run_colour(series.run);
    const Box clip{plot_.x, plot_.y, plot_.width + 4, plot_.height + 2};
    std::vector<Point> points;
    const auto finish = [&] {
      canvas_.path(points, pen_of(series.style, colour, large_), clip);
      if (points.size() == 1 || (series.style == LineStyle::Marked && points.size() <= 60))
        for (const Point& point : points)
          if (point.y >= plot_.y - 1 && point.y <= plot_.bottom() + 1) canvas_.dot(point, large_ ? 3.2 : 2.4, colour);
      points.clear();
    };
    for (const CurvePoint& point : reduced(series.points, x_, static_cast<std::size_t>(plot_.width))) {
      const bool is_drawn = std::isfinite(point.y) && (!chart_.logarithmic || point.y > 0);
      if (is_drawn) points.push_back(at(point.x, point.y));
      else finish();
    }
    finish();
  }

  Canvas& canvas_;
  const Chart& chart_;
  const bool large_;
  const Box plot_;
  Axis x_, y_;
};

}  // namespace

const std::string& run_colour(std::size_t run) {
  static const std::array<std::string, 7> colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539"};
  return colours[run % colours.size()];
}

FigureSize figure_size(const std::vector<RunCurves>& runs) { return {figure_width, legend_height(runs) + main_height + gap + small_height + margin}; }

void draw_figure(Canvas& canvas, const std::vector<RunCurves>& runs) {
  const FigureSize size = figure_size(runs);
  canvas.fill({0, 0, size.width, size.height}, "#ffffff");
  draw_legend(canvas, runs);
  const std::vector<Chart> charts = charts_of(runs);
  const double top = legend_height(runs), width = figure_width - 2 * margin;
  ChartDrawing(canvas, charts[0], {margin, top, width, main_height}, true).draw();
  const double small_width = (width - 2 * margin) / 3;
  for (std::size_t i = 1; i < charts.size(); ++i)
    ChartDrawing(canvas, charts[i], {margin + static_cast<double>(i - 1) * (small_width + margin), top + main_height + gap, small_width, small_height}, false).draw();
}

}  // namespace mblm
