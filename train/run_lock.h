// Prevents several processes from using a run at the same time.
#pragma once

#include <filesystem>
#include <string>

#include "engine/io/file.h"

namespace mblm {

// Holds a lock until destruction or the end of the process, even if it is killed. The lock belongs to the open file (Linux's "open file
// description locks"), so that two objects of one process exclude each other too, and asking for the holder takes no lock.
class RunLock {
 public:
  // Locks `file`, creating it if necessary, and writes the process id to it. Throws FileError, naming `run` and the id of the other
  // process, if it is already locked.
  RunLock(const std::filesystem::path& file, const std::filesystem::path& run);

  // A warning if the file system has no locks; this object then protects nothing.
  const std::string& warning() const { return warning_; }

  // The id of the process that holds the lock: "unknown" if the file does not contain it, empty if the file is not locked. Does not
  // disturb a process that locks the file at this moment.
  static std::string holder(const std::filesystem::path& file);

 private:
  FileDescriptor file_;
  std::string warning_;
};

}  // namespace mblm
