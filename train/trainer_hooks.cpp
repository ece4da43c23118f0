#include "train/trainer_hooks.h"

namespace mblm {

std::string result_hooks(const TrainerHooks& hooks) {
  std::string names;
  const auto add = [&names](const char* name, bool is_set) {
    if (is_set) names += concat_text(names.empty() ? "" : ", ", name);
  };
  add("loss", hooks.loss != nullptr);
  add("before_update", hooks.before_update != nullptr);
  add("after_update", hooks.after_update != nullptr);
  add("learning_rate", hooks.learning_rate != nullptr);
  add("make_optimizer", hooks.make_optimizer != nullptr);
  add("state", hooks.state != nullptr);
  add("end_run", hooks.end_run != nullptr);
  return names;
}

}  // namespace mblm
