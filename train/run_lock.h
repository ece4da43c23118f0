// Prevents several processes from using a run at the same time.
#pragma once

#include <filesystem>
#include <string>

#include "engine/io/file.h"

namespace mblm {

// Holds a lock until destruction or the end of the process, even if it is killed. Has no effect on file systems without locks.
class RunLock {
 public:
  // Locks `file`, creating it if necessary, and writes the process id to it. Throws FileError, naming `run` and the id of the other
  // process, if it is already locked.
  RunLock(const std::filesystem::path& file, const std::filesystem::path& run);

  // The id of the process that holds the lock: "unknown" if the file does not contain it, empty if the file is not locked.
  static std::string holder(const std::filesystem::path& file);

 private:
  FileDescriptor file_;
};

}  // namespace mblm
