// The smoothed training loss.
#pragma once

#include <optional>

namespace mblm {

// An exponential moving average over about the last 20 losses, without the bias of its start (Kingma and Ba 2015, section 3):
//   sum = b sum + (1 - b) loss, weight = b weight + (1 - b), value = sum / weight, with b = 0.95.
// A resumed run continues it from `sum` and `weight` with the same bits.
struct LossAverage {
  static constexpr double decay = 0.95;
  double sum = 0, weight = 0;

  void add(double loss) {
    sum = decay * sum + (1 - decay) * loss;
    weight = decay * weight + (1 - decay);
  }
  // Nothing before the first loss.
  std::optional<double> value() const { return weight > 0 ? std::optional(sum / weight) : std::nullopt; }
};

}  // namespace mblm
