#include "train/best_checkpoints.h"

#include <algorithm>
#include <utility>

#include "train/file_error.h"

namespace mblm {

BestCheckpoints::BestCheckpoints(std::filesystem::path folder, std::int64_t capacity)
    : folder_(std::move(folder)), capacity_(static_cast<std::size_t>(std::max<std::int64_t>(0, capacity))) {}

std::filesystem::path BestCheckpoints::path_of(const Checkpoint& checkpoint) const {
  std::string number = std::to_string(checkpoint.micro_step);
  number.insert(0, number.size() < 9 ? 9 - number.size() : 0, '0');  // names sort as numbers
  return folder_ / ("step_" + number + ".safetensors");
}

bool BestCheckpoints::add(const Checkpoint& checkpoint, const std::function<void(const std::filesystem::path&)>& save) {
  const auto place = std::upper_bound(best_.begin(), best_.end(), checkpoint, [](const Checkpoint& a, const Checkpoint& b) { return a.loss < b.loss; });
  if (static_cast<std::size_t>(place - best_.begin()) >= capacity_) return false;
  save(path_of(checkpoint));
  const bool is_best = place == best_.begin();
  best_.insert(place, checkpoint);
  if (is_best) link_best();
  if (best_.size() > capacity_) {
    std::error_code error;
    std::filesystem::remove(path_of(best_.back()), error);
    if (error) throw_file_error(path_of(best_.back()), "cannot be removed", error.value());
    best_.pop_back();
  }
  return true;
}

void BestCheckpoints::link_best() const {
  const std::filesystem::path next = folder_ / "best.safetensors.next";
  std::error_code error;
  std::filesystem::remove(next, error);
  if (!error) std::filesystem::create_symlink(path_of(best_.front()).filename(), next, error);
  if (!error) std::filesystem::rename(next, link(), error);
  if (error) throw_file_error(link(), "cannot be written", error.value());
}

}  // namespace mblm
