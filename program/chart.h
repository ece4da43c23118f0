// Charts of runs, independent of how they are drawn.
#pragma once

#include <string>
#include <vector>

#include "program/run_curves.h"

namespace mblm {

// How numbers of an axis are written.
enum class Unit { None, Bytes, BytesPerSecond };

enum class LineStyle {
  Faint,   // single batches
  Solid,
  Marked,  // a dashed line with a mark at each point
};

struct Series {
  std::size_t run = 0;  // index, which gives the colour
  LineStyle style = LineStyle::Solid;
  Curve points;
};

struct Chart {
  std::string title;
  Unit unit = Unit::None;  // of y
  bool logarithmic = false;
  std::vector<Series> series = {};  // without empty ones
};

// Losses, learning rate, gradient norm and throughput (averaged over at most 60 parts of a run), in this order.
std::vector<Chart> charts_of(const std::vector<RunCurves>& runs);

struct Tick {
  double value = 0;
  std::string label;
};

// A range that contains all values, with ticks at round numbers.
struct Axis {
  double minimum = 0, maximum = 1;
  bool logarithmic = false;
  std::vector<Tick> ticks;

  // 0 at the minimum, 1 at the maximum.
  double place(double value) const;
};

// At most `most_ticks` ticks (at least 2) for a linear axis from `minimum` to `maximum`.
Axis linear_axis(double minimum, double maximum, int most_ticks, Unit unit);
Axis logarithmic_axis(double minimum, double maximum, int most_ticks, Unit unit);  // of positive values

Axis x_axis(const Chart& chart, int most_ticks);
// Covers the curves and most single batches: outliers among those do not flatten the curves.
Axis y_axis(const Chart& chart, int most_ticks);

// Reduces a curve to the least and the greatest value in each of `columns` columns of the axis.
Curve reduced(const Curve& curve, const Axis& x, std::size_t columns);

// Distinct names for a legend: the folder's name, or its path where two runs have the same name.
std::vector<std::string> run_names(const std::vector<RunCurves>& runs);

}  // namespace mblm
