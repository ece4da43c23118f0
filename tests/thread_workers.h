// Workers in threads of one process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "train/communicator.h"

namespace mblm::testing {

// Runs `work` in a thread for each of `size` workers. Gives the message of what each one threw, empty for nothing.
std::vector<std::string> run_workers(int size, const std::function<void(Communicator&)>& work);

}  // namespace mblm::testing
