// A self-contained web page about runs.
#pragma once

#include <string>
#include <vector>

#include "program/run_curves.h"

namespace mblm {

// HTML with the curves of the runs, and of each run its results, the samples and warnings in train.log, and its config. Needs no other
// file and no network. Throws FileError if config.yaml cannot be read; a run without train.log has no samples.
std::string run_page(const std::vector<RunCurves>& runs);

}  // namespace mblm
