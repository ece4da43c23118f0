// The figure of one or more runs: losses above, learning rate, gradient norm and throughput below.
#pragma once

#include <memory>
#include <vector>

#include "program/canvas.h"
#include "program/chart.h"

namespace mblm {

struct FigureSize {
  double width = 0, height = 0;
};
// The height grows with the legend.
FigureSize figure_size(const std::vector<RunCurves>& runs);
void draw_figure(Canvas& canvas, const std::vector<RunCurves>& runs);

// The colour of a run, #rrggbb. The first 7 differ also for people who are colour-blind (Okabe and Ito 2008); then they repeat.
const std::string& run_colour(std::size_t run);

}  // namespace mblm
