#include "mblm/stop_text.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"

namespace mblm {
namespace {

// Whether the ids from `first` on are the first bytes of `text`.
bool begins(const std::string& text, std::span<const std::int64_t> ids) {
  return ids.size() <= text.size() &&
         std::equal(ids.begin(), ids.end(), text.begin(), [](std::int64_t id, char c) { return id == static_cast<unsigned char>(c); });
}

}  // namespace

StopText::StopText(std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (const std::string& text : texts_) require<ValueError>(!text.empty(), "generate: stop: expected a text, got an empty one");
}

std::vector<std::int64_t> StopText::push(std::int64_t id) {
  held_.push_back(id);
  // The earliest place from which all ids are a stop text, else from which they are the beginning of one.
  const auto place = [&](bool complete) {
    std::size_t first = 0;
    for (; first < held_.size(); ++first) {
      const auto rest = std::span(held_).subspan(first);
      if (std::any_of(texts_.begin(), texts_.end(), [&](const std::string& t) { return (!complete || t.size() == rest.size()) && begins(t, rest); })) break;
    }
    return first;
  };
  std::size_t first = place(true);
  stopped_ = first < held_.size();
  if (!stopped_) first = place(false);
  std::vector<std::int64_t> free(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(first));
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(first));
  if (stopped_) held_.clear();
  return free;
}

std::vector<std::int64_t> StopText::flush() { return std::exchange(held_, {}); }

}  // namespace mblm
