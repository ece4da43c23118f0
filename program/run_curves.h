// The curves of a run, read from its folder: of this program, of its earlier versions, or of the Python package.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mblm {

struct CurvePoint {
  double x = 0, y = 0;
};
using Curve = std::vector<CurvePoint>;

// x is the number of bytes seen by all workers.
struct RunCurves {
  std::filesystem::path folder;
  std::string name;                          // of the folder
  Curve training = {}, smoothed = {}, validation = {};  // bits per byte; training is the mean over the logged workers
  Curve learning_rate = {};
  Curve gradient_norm = {};                    // empty if the table has no column grad_norm
  Curve bytes_per_second = {};                 // without that column computed from the times of the rows, without validations
  std::optional<double> test = {};           // bits per byte
};

// Reads loss.csv and the fields of config.yaml that give the bytes of an element. Ignores an incomplete last line, which a run may be
// writing. Throws FileError for a folder without a run, a table without losses, and a row that is not a row of the table.
RunCurves read_run_curves(const std::filesystem::path& folder);

// The moving average of train/loss_average.h over the points of a curve.
Curve smoothed(const Curve& curve);

}  // namespace mblm
