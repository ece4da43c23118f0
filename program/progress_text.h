// What is told of a training run while it goes on.
#pragma once

#include <string>

#include "train/progress.h"

namespace mblm {

// step 120/1100  11 %  loss 1.612  2.326 bits/byte  lr 9.8e-04  norm 0.71  61.2 kB/s  3:05 left
std::string progress_text(const TrainingProgress& progress);

}  // namespace mblm
