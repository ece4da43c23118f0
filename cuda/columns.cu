#include "ops/columns.h"

#include "cuda/copy_runs.h"

namespace mblm::cuda {
namespace {

// One run per row.
struct Rows {
  char* to;
  const char* from;
  std::int64_t to_stride, from_stride, bytes;
  __device__ Run operator()(std::int64_t row) const { return {to + row * to_stride, from + row * from_stride, bytes}; }
};

void copy(const Tensor& from, std::int64_t from_column, Tensor& to, std::int64_t to_column, std::int64_t width) {
  const Rows rows{static_cast<char*>(raw(to)) + bytes_of(to, to_column), static_cast<const char*>(raw(from)) + bytes_of(from, from_column),
                  bytes_of(to, to.shape().last()), bytes_of(from, from.shape().last()), bytes_of(from, width)};
  const Alignment alignment = Alignment().with(rows.to).with(rows.from).with(rows.to_stride).with(rows.from_stride).with(rows.bytes);
  copy_runs(rows, from.shape().rows(), rows.bytes, alignment);
}

const bool added = add_kernel(copy_columns, copy, all_dtypes);

}  // namespace
}  // namespace mblm::cuda
