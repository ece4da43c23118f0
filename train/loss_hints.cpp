#include "train/loss_hints.h"

#include <cmath>
#include <iomanip>
#include <optional>
#include <utility>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::int64_t fewest_steps = 10;  // before a share of steps says anything
constexpr std::int64_t patience = 50;      // steps after warm-up: the smoothed loss has forgotten those before

std::string clipping_advice(const TrainConfig& train) {
  if (!train.gradient_clipping) return "set train.gradient_clipping (1 is usual)";
  return concat_text("lower train.gradient_clipping (now ", *train.gradient_clipping, ")");
}

}  // namespace

std::string nonfinite_remedy(const TrainConfig& train) {
  return concat_text("lower train.learning_rate (now ", train.learning_rate, ") or ", clipping_advice(train));
}

bool LossHints::is_stuck(const TrainingState& state) const {
  const std::int64_t after_warmup = state.steps - schedule_.warmup_steps();
  const bool at_end = state.steps == schedule_.steps();
  if (weighted_ || after_warmup < (at_end ? fewest_steps : patience)) return false;
  return state.loss_average.value().value_or(0) > std::log(static_cast<double>(config_.model.num_tokens));
}

std::vector<std::string> LossHints::take(const TrainingState& state) {
  std::vector<std::string> hints;
  const auto once = [&hints](bool& given, bool applies, auto&& text) {
    if (applies && !std::exchange(given, true)) hints.push_back(text());
  };
  const std::int64_t applied = state.steps - state.skipped_steps;
  const std::optional<double> loss = state.loss_average.value();
  once(skipped_, state.skipped_steps > 0, [&] { return "the loss or gradient of a step was not finite: " + nonfinite_remedy(config_.train); });
  once(mostly_skipped_, state.steps >= fewest_steps && 2 * state.skipped_steps > state.steps, [&] {
    return concat_text("the loss is stuck: ", state.skipped_steps, " of ", state.steps, " optimizer steps were skipped, their loss or gradient was not finite: ",
                       nonfinite_remedy(config_.train));
  });
  once(empty_, applied >= fewest_steps && loss == 0.0, [&] {
    return concat_text("the loss is stuck at 0: no byte of the training data counts, ",
                       config_.model.is_masked() ? "none is masked (train.masking_proba)"
                                                 : concat_text("all equal params.pad_token_id (", config_.model.pad_token_id, ") or have weight 0"));
  });
  once(stuck_, is_stuck(state), [&] {
    const auto guess = std::log(static_cast<double>(config_.model.num_tokens));
    return concat_text("the loss is stuck: the average of the last steps, ", std::fixed, std::setprecision(3), *loss, ", is above that of a uniform guess over ",
                       config_.model.num_tokens, " ids, ", guess, std::defaultfloat, ", after warm-up: ", nonfinite_remedy(config_.train),
                       "; data without patterns (compressed, encrypted) cannot be learned");
  });
  return hints;
}

}  // namespace mblm
