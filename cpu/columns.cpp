#include "ops/columns.h"

#include "cpu/copy_rows.h"

namespace mblm {
namespace {

// Copies one run of bytes per row.
void copy(const Tensor& from, std::int64_t from_column, Tensor& to, std::int64_t to_column, std::int64_t width) {
  copy_rows(static_cast<char*>(raw(to)) + bytes_of(to, to_column), bytes_of(to, to.shape().last()),
            static_cast<const char*>(raw(from)) + bytes_of(from, from_column), bytes_of(from, from.shape().last()), from.shape().rows(),
            bytes_of(from, width));
}

const bool added = add_cpu_floating_kernel(copy_columns, copy);

}  // namespace
}  // namespace mblm
