// The best models of a run, as files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mblm {

struct Checkpoint {
  double loss = 0;              // validation loss
  std::int64_t micro_step = 0;  // number of micro-batches before the checkpoint
};

// Stores the `capacity` models with the smallest losses and `best.safetensors`, a link to the best one. The best models are on disk at
// all times: the link changes after a new file is complete, and the worst file is removed last. The link is symbolic; on a file system
// without symbolic links it is a hard link, or else a copy.
class BestCheckpoints {
 public:
  // `warn` receives one warning if the file system has no symbolic links.
  BestCheckpoints(std::filesystem::path folder, std::int64_t capacity, std::function<void(const std::string&)> warn = {});

  // Saves the model with `save(path)` if it is among the best. Of equal losses the earlier one is better.
  void add(const Checkpoint& checkpoint, const std::function<void(const std::filesystem::path&)>& save);

  // Restores the list of a saved state. Drops entries without a file: later, better models replaced them, and the resumed run computes
  // these models again.
  void restore(const std::vector<Checkpoint>& list);
  // Removes unlisted files, which a killed run can leave, and sets the link. Throws FileError that names a file which remains.
  void remove_others();
  // Saves `last.safetensors`. If there is no best model, `best.safetensors` becomes a link to it.
  void save_last(const std::function<void(const std::filesystem::path&)>& save);

  const std::vector<Checkpoint>& list() const { return best_; }  // best first
  std::filesystem::path path_of(const Checkpoint& checkpoint) const;

 private:
  void link_best();
  void link(const std::filesystem::path& file);  // a name in the folder

  const std::filesystem::path folder_;
  const std::size_t capacity_;
  std::vector<Checkpoint> best_;
  std::function<void(const std::string&)> warn_;
};

}  // namespace mblm
