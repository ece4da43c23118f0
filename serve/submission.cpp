#include "serve/submission.h"

#include <iterator>

namespace mblm {
namespace {

void append(std::vector<ScoredId>& all, std::vector<ScoredId>&& more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

bool is_empty(const Progress& news) { return news.prompt.empty() && news.ids.empty() && news.generated == 0 && !news.finish; }

}  // namespace

void Outbox::add(Progress more) {
  if (is_empty(more)) return;
  bool notify = false;
  {
    const std::lock_guard lock(mutex_);
    Progress& news = news_[more.choice];
    append(news.prompt, std::move(more.prompt));
    append(news.ids, std::move(more.ids));
    news.generated += more.generated;
    if (more.finish) {
      news.finish = more.finish;
      news.error = std::move(more.error);
      --unfinished_;
    }
    fresh_ = true;
    notify = !waits_for_all_ || unfinished_ == 0;
  }
  if (notify) changed_.notify_all();
}

std::vector<Progress> Outbox::wait(std::chrono::milliseconds patience, bool whole) {
  std::unique_lock lock(mutex_);
  waits_for_all_ = whole;
  const bool ready = changed_.wait_for(lock, patience, [&] { return whole ? unfinished_ == 0 : fresh_; });
  if (!ready) return {};
  std::vector<Progress> collected;
  for (std::size_t choice = 0; choice < news_.size(); ++choice) {
    if (is_empty(news_[choice])) continue;
    collected.push_back(std::exchange(news_[choice], {}));
    collected.back().choice = choice;
  }
  fresh_ = false;
  return collected;
}

bool Outbox::finished() const {
  const std::lock_guard lock(mutex_);
  return unfinished_ == 0 && !fresh_;
}

}  // namespace mblm
