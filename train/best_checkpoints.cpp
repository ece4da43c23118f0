#include "train/best_checkpoints.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/folder.h"

namespace mblm {
namespace {

const std::string file_prefix = "step_";
constexpr const char *best_name = "best.safetensors", *last_name = "last.safetensors";

}  // namespace

BestCheckpoints::BestCheckpoints(std::filesystem::path folder, std::int64_t capacity, std::function<void(const std::string&)> warn)
    : folder_(std::move(folder)), capacity_(static_cast<std::size_t>(std::max<std::int64_t>(0, capacity))), warn_(std::move(warn)) {}

std::filesystem::path BestCheckpoints::path_of(const Checkpoint& checkpoint) const {
  std::string number = std::to_string(checkpoint.micro_step);
  number.insert(0, number.size() < 9 ? 9 - number.size() : 0, '0');  // so that names sort by number
  return folder_ / (file_prefix + number + ".safetensors");
}

void BestCheckpoints::add(const Checkpoint& checkpoint, const std::function<void(const std::filesystem::path&)>& save) {
  const auto place = std::upper_bound(best_.begin(), best_.end(), checkpoint, [](const Checkpoint& a, const Checkpoint& b) { return a.loss < b.loss; });
  if (static_cast<std::size_t>(place - best_.begin()) >= capacity_) return;
  save(path_of(checkpoint));
  const bool is_best = place == best_.begin();
  best_.insert(place, checkpoint);
  if (is_best) link_best();
  if (best_.size() <= capacity_) return;
  const std::filesystem::path worst = path_of(best_.back());
  best_.pop_back();
  remove_all_of({worst});
}

void BestCheckpoints::restore(const std::vector<Checkpoint>& list) {
  best_.clear();
  std::copy_if(list.begin(), list.end(), std::back_inserter(best_), [&](const Checkpoint& c) { return path_exists(path_of(c)); });
}

void BestCheckpoints::remove_others() {
  std::vector<std::filesystem::path> others;
  for (const std::filesystem::path& file : entries_of(folder_)) {
    const bool is_listed = std::any_of(best_.begin(), best_.end(), [&](const Checkpoint& c) { return path_of(c) == file; });
    if (!is_listed && file.filename().string().starts_with(file_prefix)) others.push_back(file);
  }
  if (!best_.empty()) link_best();
  remove_all_of(others);
}

void BestCheckpoints::link_best() { link(path_of(best_.front()).filename()); }

void BestCheckpoints::link(const std::filesystem::path& file) {
  const std::filesystem::path link = folder_ / best_name, next = folder_ / (std::string(best_name) + ".next");
  std::error_code error, refused;
  std::filesystem::remove(next, error);
  if (error) throw_file_error(link, "cannot be written", error.value());
  std::filesystem::create_symlink(file, next, refused);
  if (refused) {
    std::filesystem::create_hard_link(folder_ / file, next, error);
    const bool is_copy = static_cast<bool>(error);
    if (is_copy) std::filesystem::copy_file(folder_ / file, next, error);
    if (!error && warn_) warn_(concat_text(link.string(), ": a ", is_copy ? "copy" : "hard link", ", since the file system has no symbolic links (", refused.message(), ")"));
    if (!error) warn_ = nullptr;  // once
  }
  if (!error) std::filesystem::rename(next, link, error);
  if (error) throw_file_error(link, "cannot be written", error.value());
  std::filesystem::remove(next, error);  // rename leaves it if both are hard links to the same file
}

void BestCheckpoints::save_last(const std::function<void(const std::filesystem::path&)>& save) {
  save(folder_ / last_name);
  if (best_.empty()) link(last_name);
}

}  // namespace mblm
