#include "program/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace mblm {
namespace {

std::string number_text(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value);
  std::string short_text = text.data();
  for (const char* zeros : {"e-0", "e+0"})  // 5e-05 becomes 5e-5
    if (const std::size_t at = short_text.find(zeros); at != std::string::npos) short_text.erase(at + 2, 1);
  return short_text;
}

// Ticks of an axis use the unit of its greatest value, so that they can be compared.
std::string tick_text(double value, double maximum, Unit unit) {
  if (unit == Unit::None || value == 0) return number_text(value);
  constexpr std::array<const char*, 6> prefixes{"", "k", "M", "G", "T", "P"};
  std::size_t prefix = 0;
  for (double rest = maximum; rest >= 1000 && prefix + 1 < prefixes.size(); rest /= 1000) ++prefix;
  return number_text(value / std::pow(1000.0, static_cast<double>(prefix))) + " " + prefixes[prefix] + (unit == Unit::Bytes ? "B" : "B/s");
}

// The greatest of 1, 2 and 5 times a power of ten that gives at least the wanted step.
double round_step(double at_least) {
  const double power = std::pow(10.0, std::floor(std::log10(at_least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= at_least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

void add(Chart& chart, std::size_t run, LineStyle style, const Curve& curve) {
  if (!curve.empty()) chart.series.push_back({run, style, curve});
}

// Averages speeds, bytes over time, in at most 60 parts of the curve: single steps differ too much to be seen.
Curve averaged_speed(const Curve& speed) {
  constexpr std::size_t parts = 60;
  if (speed.size() <= parts) return speed;
  Curve result;
  std::size_t next = 1;
  for (std::size_t part = 1; part <= parts; ++part) {
    double bytes = 0, seconds = 0;
    for (; next < 1 + (speed.size() - 1) * part / parts; ++next) {
      if (!(speed[next].y > 0)) continue;
      bytes += speed[next].x - speed[next - 1].x;
      seconds += (speed[next].x - speed[next - 1].x) / speed[next].y;
    }
    if (seconds > 0) result.push_back({speed[next - 1].x, bytes / seconds});
  }
  return result;
}

struct Extent {
  double minimum = INFINITY, maximum = -INFINITY;
  void add(double value) {
    if (!std::isfinite(value)) return;
    minimum = std::min(minimum, value);
    maximum = std::max(maximum, value);
  }
};

}  // namespace

std::vector<Chart> charts_of(const std::vector<RunCurves>& runs) {
  std::vector<Chart> charts{{.title = "Bits per byte"},
                            {.title = "Learning rate"},
                            {.title = "Gradient norm"},
                            {.title = "Throughput", .unit = Unit::BytesPerSecond}};
  for (std::size_t i = 0; i < runs.size(); ++i) add(charts[0], i, LineStyle::Faint, runs[i].training);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    add(charts[0], i, LineStyle::Solid, runs[i].smoothed);
    add(charts[0], i, LineStyle::Marked, runs[i].validation);
    add(charts[1], i, LineStyle::Solid, runs[i].learning_rate);
    add(charts[2], i, LineStyle::Solid, runs[i].gradient_norm);
    add(charts[3], i, LineStyle::Solid, averaged_speed(runs[i].bytes_per_second));
  }
  Extent norms;  // they span orders of magnitude when a run is unstable
  for (const Series& series : charts[2].series)
    for (const CurvePoint& point : series.points)
      if (point.y > 0) norms.add(point.y);
  charts[2].logarithmic = norms.maximum > 30 * norms.minimum;
  return charts;
}

double Axis::place(double value) const {
  if (!logarithmic) return (value - minimum) / (maximum - minimum);
  return std::log(value / minimum) / std::log(maximum / minimum);
}

Axis linear_axis(double minimum, double maximum, int most_ticks, Unit unit) {
  if (!(maximum > minimum)) {  // one value, or none
    const double margin = minimum == 0 ? 1 : std::fabs(minimum) / 2;
    const double middle = std::isfinite(minimum) ? minimum : 0;
    minimum = middle == 0 ? 0 : middle - margin;
    maximum = middle + (std::isfinite(margin) ? margin : 1);
  }
  Axis axis{.minimum = minimum, .maximum = maximum, .ticks = {}};
  double step = round_step((maximum - minimum) / std::max(1, most_ticks));
  const auto count = [&] { return std::floor(maximum / step + 1e-9) - std::ceil(minimum / step - 1e-9) + 1; };
  while (count() > most_ticks) step = round_step(step * 1.1);
  for (double i = std::ceil(minimum / step - 1e-9); i * step <= maximum + 1e-9 * step; ++i)
    axis.ticks.push_back({i * step + 0.0, tick_text(i * step + 0.0, std::max(std::fabs(maximum), std::fabs(minimum)), unit)});
  return axis;
}

Axis logarithmic_axis(double minimum, double maximum, int most_ticks, Unit unit) {
  Axis axis{.minimum = minimum, .maximum = maximum, .logarithmic = true, .ticks = {}};
  const auto first = static_cast<int>(std::floor(std::log10(minimum))), last = static_cast<int>(std::ceil(std::log10(maximum)));
  const std::vector<std::vector<double>> patterns{{1, 2, 5}, {1, 3}, {1}};
  for (int every = 1; axis.ticks.empty() || static_cast<int>(axis.ticks.size()) > std::max(2, most_ticks); ++every) {
    axis.ticks.clear();
    const std::vector<double>& factors = patterns[static_cast<std::size_t>(std::min(every, 3) - 1)];
    for (int power = first; power <= last; power += std::max(1, every - 2))
      for (const double factor : factors)
        if (const double value = factor * std::pow(10.0, power); value >= minimum * (1 - 1e-9) && value <= maximum * (1 + 1e-9))
          axis.ticks.push_back({value, tick_text(value, value, unit)});
    if (every > last - first + 3) break;
  }
  return axis;
}

Axis x_axis(const Chart& chart, int most_ticks) {
  Extent extent;
  for (const Series& series : chart.series)
    for (const CurvePoint& point : series.points) extent.add(point.x);
  return linear_axis(0, std::max(extent.maximum, 1.0), most_ticks, Unit::Bytes);
}

Axis y_axis(const Chart& chart, int most_ticks) {
  Extent extent;
  for (const Series& series : chart.series) {
    std::vector<double> values;
    for (const CurvePoint& point : series.points)
      if (std::isfinite(point.y) && (!chart.logarithmic || point.y > 0)) values.push_back(point.y);
    if (values.empty()) continue;
    std::sort(values.begin(), values.end());
    const std::size_t outliers = series.style == LineStyle::Faint ? values.size() / 100 : 0;
    extent.add(values[outliers]);
    extent.add(values[values.size() - 1 - outliers]);
  }
  if (chart.logarithmic) return logarithmic_axis(extent.minimum / 1.1, extent.maximum * 1.1, most_ticks, chart.unit);
  if (!(extent.maximum > extent.minimum)) return linear_axis(extent.minimum, extent.maximum, most_ticks, chart.unit);
  const double margin = 0.04 * (extent.maximum - extent.minimum);
  const bool from_zero = extent.minimum >= 0 && extent.minimum < 0.4 * extent.maximum;
  return linear_axis(from_zero ? 0 : extent.minimum - margin, extent.maximum + margin, most_ticks, chart.unit);
}

Curve reduced(const Curve& curve, const Axis& x, std::size_t columns) {
  if (curve.size() <= 2 * columns) return curve;
  Curve result;
  for (std::size_t i = 0; i < curve.size();) {
    const auto column_of = [&](const CurvePoint& point) { return std::floor(x.place(point.x) * static_cast<double>(columns)); };
    const double column = column_of(curve[i]);
    std::size_t least = i, greatest = i;
    for (; i < curve.size() && column_of(curve[i]) == column; ++i) {
      if (curve[i].y < curve[least].y || !std::isfinite(curve[least].y)) least = i;
      if (curve[i].y > curve[greatest].y || !std::isfinite(curve[greatest].y)) greatest = i;
    }
    result.push_back(curve[std::min(least, greatest)]);
    if (least != greatest) result.push_back(curve[std::max(least, greatest)]);
  }
  return result;
}

std::vector<std::string> run_names(const std::vector<RunCurves>& runs) {
  std::vector<std::string> names;
  for (const RunCurves& run : runs) {
    const auto same = std::count_if(runs.begin(), runs.end(), [&](const RunCurves& other) { return other.name == run.name; });
    names.push_back(same > 1 ? run.folder.string() : run.name);
  }
  return names;
}

}  // namespace mblm
