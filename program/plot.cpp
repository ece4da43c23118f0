// mblm plot: draws the curves of runs.
#include <unistd.h>

#include <cstdlib>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "program/figure.h"
#include "program/help.h"
#include "program/program.h"
#include "program/run_page.h"
#include "program/text_chart.h"

namespace mblm {
namespace {

constexpr double png_scale = 2;  // sharp on dense displays

std::unique_ptr<Canvas> canvas_for(const std::string& file, FigureSize size) {
  if (!file.ends_with(".png")) return make_svg_canvas(size.width, size.height);
  std::unique_ptr<Canvas> canvas = make_png_canvas(size.width, size.height, png_scale);
  require<FileError>(canvas != nullptr, file, ": this program was built without cairo, which .png needs; use .svg");
  return canvas;
}

TextStyleOptions terminal_style() {
  const char* no_colour = std::getenv("NO_COLOR");
  const bool colours = isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0');
  return {.width = help_width(), .unicode = locale_is_utf8(), .colours = colours};
}

}  // namespace

int run(const PlotCommand& command) {
  std::vector<RunCurves> runs;
  for (const std::string& folder : command.runs) runs.push_back(read_run_curves(folder));
  if (command.out) {
    const std::unique_ptr<Canvas> canvas = canvas_for(*command.out, figure_size(runs));
    draw_figure(*canvas, runs);
    write_file_atomically(*command.out, canvas->finish());
  }
  if (command.html) write_file_atomically(*command.html, run_page(runs));
  if (command.text || (!command.out && !command.html)) write_output(text_charts(runs, terminal_style()));
  return 0;
}

}  // namespace mblm
