// Charts of runs in characters, for a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "program/chart.h"

namespace mblm {

struct TextStyleOptions {
  std::size_t width = 80;  // columns; at least 30 are used
  bool unicode = true;     // braille dots, 2 x 4 in a character; otherwise ASCII
  bool colours = false;    // ANSI colours, which distinguish several runs; without them each run is a letter
};

// Whether LC_ALL, LC_CTYPE or LANG (the first that is set) names UTF-8. The locale need not be installed.
bool locale_is_utf8();

// Losses, learning rate, gradient norm and throughput, one below the other, with a legend.
std::string text_charts(const std::vector<RunCurves>& runs, const TextStyleOptions& options);

}  // namespace mblm
