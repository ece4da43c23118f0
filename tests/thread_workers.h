// Workers as threads of one process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "train/communicator.h"

namespace mblm::testing {

// Runs `work` in one thread for each of `size` workers. Returns the error message of each worker, empty if it did not throw.
std::vector<std::string> run_workers(int size, const std::function<void(Communicator&)>& work);

}  // namespace mblm::testing
