// The best states of a run, as files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mblm {

struct Checkpoint {
  double loss = 0;              // of the validation
  std::int64_t micro_step = 0;  // after so many micro-batches
};

// Keeps the files of at most `capacity` states with the smallest losses, and `best.safetensors`, a link to the best one.
// At no time is a better state missing from the disk: a new file is whole before the link moves, and the worst goes last.
class BestCheckpoints {
 public:
  BestCheckpoints(std::filesystem::path folder, std::int64_t capacity);

  // Saves the state by `save(path)` when it is among the best; of equal ones the earlier is better.
  void add(const Checkpoint& checkpoint, const std::function<void(const std::filesystem::path&)>& save);

  // Goes on with the list of a state. What is not on the disk any more is left out: better ones took its place later, and come
  // again.
  void restore(const std::vector<Checkpoint>& list);
  // Removes the files of other states, which a run that was killed can leave, and sets the link.
  void remove_others() const;

  const std::vector<Checkpoint>& list() const { return best_; }  // best first
  std::filesystem::path path_of(const Checkpoint& checkpoint) const;

 private:
  void link_best() const;

  const std::filesystem::path folder_;
  const std::size_t capacity_;
  std::vector<Checkpoint> best_;
};

}  // namespace mblm
