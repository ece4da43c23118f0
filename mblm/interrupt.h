// SIGINT and SIGTERM as a wish to stop, for work that has something to bring to an end first.
#pragma once

namespace mblm {

// While it lives, the first SIGINT or SIGTERM is only noted. A second one ends the program at once.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  static int signal();  // the signal that came, 0 for none
};

}  // namespace mblm
