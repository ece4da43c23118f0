#include "ops/token_shift.h"

#include "cuda/copy_runs.h"

namespace mblm::cuda {
namespace {

// Bytes of a row and of its two halves. The runs are: the kept halves of all rows and their moved halves, alternating, then the states
// of the sequences. Memory bound: each byte is read once and written once.
struct Sizes {
  std::int64_t rows, tokens, row, kept, moved;
  explicit Sizes(const Tensor& x)
      : rows(x.shape().rows()),
        tokens(x.size(1)),
        row(bytes_of(x, x.size(2))),
        kept(bytes_of(x, x.size(2) - x.size(2) / 2)),
        moved(bytes_of(x, x.size(2) / 2)) {}
  Alignment alignment() const { return Alignment().with(row).with(kept).with(moved); }
  std::int64_t count(const Tensor& states) const { return 2 * rows + (states.defined() ? rows / tokens : 0); }
};

struct Forward {
  Sizes s;
  char *y, *last;              // last may be null
  const char *x, *previous;    // previous may be null
  __device__ Run operator()(std::int64_t i) const {
    if (i >= 2 * s.rows) {
      const std::int64_t sequence = i - 2 * s.rows;
      return {last + sequence * s.moved, x + ((sequence + 1) * s.tokens - 1) * s.row + s.kept, s.moved};
    }
    const std::int64_t row = i / 2;
    if (i % 2 == 0) return {y + row * s.row, x + row * s.row, s.kept};
    const std::int64_t sequence = row / s.tokens;
    const bool starts = row == sequence * s.tokens;
    const char* before = previous == nullptr ? nullptr : previous + sequence * s.moved;
    return {y + row * s.row + s.kept, starts ? before : x + (row - 1) * s.row + s.kept, s.moved};
  }
};

struct Backward {
  Sizes s;
  char *dx, *dprevious;        // dprevious may be null
  const char *dy, *dlast;      // dlast may be null
  __device__ Run operator()(std::int64_t i) const {
    if (i >= 2 * s.rows) {
      const std::int64_t sequence = i - 2 * s.rows;
      return {dprevious + sequence * s.moved, dy + sequence * s.tokens * s.row + s.kept, s.moved};
    }
    const std::int64_t row = i / 2;
    if (i % 2 == 0) return {dx + row * s.row, dy + row * s.row, s.kept};
    const std::int64_t sequence = row / s.tokens;
    const bool ends = row == (sequence + 1) * s.tokens - 1;
    const char* after = dlast == nullptr ? nullptr : dlast + sequence * s.moved;
    return {dx + row * s.row + s.kept, ends ? after : dy + (row + 1) * s.row + s.kept, s.moved};
  }
};

void forward(const Tensor& x, const Tensor& previous, Tensor& y, Tensor& last) {
  const Forward runs{Sizes(x), static_cast<char*>(raw(y)), static_cast<char*>(raw(last)), static_cast<const char*>(raw(x)),
                     static_cast<const char*>(raw(previous))};
  copy_runs(runs, runs.s.count(last), runs.s.kept, runs.s.alignment().with(runs.x).with(runs.previous).with(runs.y).with(runs.last));
}

void backward(const Tensor& dy, const Tensor& dlast, Tensor& dx, Tensor& dprevious) {
  const Backward runs{Sizes(dy), static_cast<char*>(raw(dx)), static_cast<char*>(raw(dprevious)), static_cast<const char*>(raw(dy)),
                      static_cast<const char*>(raw(dlast))};
  copy_runs(runs, runs.s.count(dprevious), runs.s.kept, runs.s.alignment().with(runs.dy).with(runs.dlast).with(runs.dx).with(runs.dprevious));
}

const bool added = add_kernel(token_shift_forward, forward, all_dtypes) && add_kernel(token_shift_backward, backward, all_dtypes);

}  // namespace
}  // namespace mblm::cuda
