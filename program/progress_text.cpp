#include "program/progress_text.h"

#include <iomanip>
#include <sstream>

#include "program/progress_line.h"

namespace mblm {

std::string progress_text(const TrainingProgress& p) {
  const double share = p.micro_steps > 0 ? static_cast<double>(p.micro_step) / static_cast<double>(p.micro_steps) : 1;
  std::ostringstream out;
  out << "step " << p.step << '/' << p.steps << "  " << static_cast<int>(100 * share) << " %" << std::fixed << std::setprecision(3) << "  loss " << p.loss
      << "  " << p.bits_per_byte << " bits/byte" << std::scientific << std::setprecision(1) << "  lr " << p.learning_rate;
  if (p.gradient_norm) out << std::defaultfloat << std::setprecision(2) << "  norm " << *p.gradient_norm;
  out << "  " << format_bytes(p.bytes_per_second) << "/s  " << format_duration(p.seconds_left) << " left";
  return std::move(out).str();
}

}  // namespace mblm
