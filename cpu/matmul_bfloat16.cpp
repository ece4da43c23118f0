// Products of bfloat16 matrices by oneDNN. Its fast kernels (AMX, AVX-512 BF16) want a and c without gaps and b in an order of
// their own, so b is brought into it once for all tiles, a transposed a is copied straight, and tiles are whole rows of c.
// Measured on a Xeon with AMX, one thread: 1500 to 2400 GFLOP/s so, 300 to 1100 with gaps, 160 in float32.
#include "cpu/matmul.h"

#include <utility>

#include "cpu/kernel.h"
#include "ops/cast.h"
#ifdef MBLM_ONEDNN
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <string_view>

#include "cpu/one_thread.h"
#include "engine/error.h"
#endif

namespace mblm {
namespace {

Tensor widened(const Tensor& x) {
  if (!x.defined() || x.dtype() == DType::Float32) return x;
  Tensor wide = empty(x.shape(), DType::Float32);
  cast_kernel(x, wide);
  return wide;
}

}  // namespace

void multiply_widened(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  Tensor wide = flags.beta == 0 && c.dtype() != DType::Float32 ? empty(c.shape(), DType::Float32) : widened(c);
  matmul_kernel(widened(a), widened(b), widened(bias), wide, flags);
  if (c.dtype() != DType::Float32) cast_kernel(wide, c);
}

#ifdef MBLM_ONEDNN
namespace {

using dnnl::memory;

constexpr std::int64_t packed_columns = 64;  // of b in a block of oneDNN's order
constexpr std::int64_t packed_rows = 32;     // what its rows are filled up to
constexpr auto packed_order = memory::format_tag::BA16a64b2a;
constexpr std::int64_t fewest_packed_rows = 32;  // of c, below which b is read as it lies

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type type_of(DType dtype) { return dtype == DType::BFloat16 ? memory::data_type::bf16 : memory::data_type::f32; }

memory::desc matrix(std::int64_t rows, std::int64_t columns, memory::data_type type, std::int64_t row_step, std::int64_t column_step = 1) {
  return {{rows, columns}, type, memory::dims{row_step, column_step}};
}

memory at(const memory::desc& description, const void* data) { return {description, cpu_engine(), const_cast<void*>(data)}; }

// What is made from a key compiles code: once, and kept for the life of the process.
template <class Made, class Key>
const Made& compiled(const Key& key) {
  static std::mutex mutex;
  static std::map<Key, Made> all;
  const std::lock_guard lock(mutex);
  const auto found = all.find(key);
  return found != all.end() ? found->second : all.emplace(key, key).first->second;
}

// A copy of a bfloat16 matrix in another order.
struct CopyKey {
  std::int64_t rows, columns, row_step, column_step;
  std::int64_t to_step;  // between rows of the copy, which is row-major; 0: packed
  auto operator<=>(const CopyKey&) const = default;
};

class Copy {
 public:
  explicit Copy(const CopyKey& key)
      : from_(matrix(key.rows, key.columns, memory::data_type::bf16, key.row_step, key.column_step)),
        to_(key.to_step == 0 ? memory::desc({key.rows, key.columns}, memory::data_type::bf16, packed_order)
                             : matrix(key.rows, key.columns, memory::data_type::bf16, key.to_step)),
        reorder_(dnnl::reorder::primitive_desc(cpu_engine(), from_, cpu_engine(), to_)) {}

  void run(const bfloat16* from, bfloat16* to) const {
    const OneThread one_thread;
    dnnl::stream stream(cpu_engine());
    reorder_.execute(stream, {{DNNL_ARG_FROM, at(from_, from)}, {DNNL_ARG_TO, at(to_, to)}});
  }

 private:
  memory::desc from_, to_;
  dnnl::reorder reorder_;
};

// c = a b + bias + beta c, a row-major and without gaps.
struct ProductKey {
  std::int64_t M, N, K;
  std::int64_t b_row_step, b_column_step;  // 0: b is packed
  std::int64_t c_step;                     // between rows
  memory::data_type bias_type, c_type;     // undef: no bias
  float beta;
  auto operator<=>(const ProductKey&) const = default;
};

class Product {
 public:
  explicit Product(const ProductKey& key) {
    try {
      description_ = describe(key);
      if (std::string_view(description_.impl_info_str()).starts_with("ref")) return;  // loops, a thousand times slower
      primitive_ = dnnl::matmul(description_);
    } catch (const dnnl::error& error) {
      require(error.status == dnnl_unimplemented, "matmul: oneDNN failed with status ", static_cast<int>(error.status));
    }
  }

  bool is_there() const { return static_cast<bool>(primitive_); }

  void run(const void* a, const void* b, const void* bias, void* c) const {
    const OneThread one_thread;
    const Tensor scratch = empty(Shape{static_cast<std::int64_t>(description_.scratchpad_desc().get_size())}, DType::UInt8);
    std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, at(description_.src_desc(), a)},
                                              {DNNL_ARG_WEIGHTS, at(description_.weights_desc(), b)},
                                              {DNNL_ARG_DST, at(description_.dst_desc(), c)},
                                              {DNNL_ARG_SCRATCHPAD, at(description_.scratchpad_desc(), scratch.raw())}};
    if (bias != nullptr) arguments.emplace(DNNL_ARG_BIAS, at(description_.bias_desc(), bias));
    dnnl::stream stream(cpu_engine());
    primitive_.execute(stream, arguments);
  }

 private:
  static dnnl::matmul::primitive_desc describe(const ProductKey& key) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the library's own is shared by the threads that run the primitive
    if (key.beta != 0) {
      dnnl::post_ops sum;
      sum.append_sum(key.beta);
      attributes.set_post_ops(sum);
    }
    const auto type = memory::data_type::bf16;
    const memory::desc a = matrix(key.M, key.K, type, key.K), c = matrix(key.M, key.N, key.c_type, key.c_step);
    const memory::desc b = key.b_row_step == 0 ? memory::desc({key.K, key.N}, type, packed_order)
                                               : matrix(key.K, key.N, type, key.b_row_step, key.b_column_step);
    if (key.bias_type == memory::data_type::undef) return {dnnl::matmul::desc(a, b, c), attributes, cpu_engine()};
    return {dnnl::matmul::desc(a, b, matrix(1, key.N, key.bias_type, key.N), c), attributes, cpu_engine()};
  }

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul primitive_;  // none where oneDNN has no such product for this processor
};

// One product of two matrices.
struct Operands {
  ProductKey key;  // of the whole
  bool transpose_a;
  const bfloat16 *a, *b;
  const std::byte* bias;
  std::byte* c;
  std::int64_t bias_bytes, c_bytes;  // of an element
};

// Copies are made in parts of a cache's size. Their long side is a multiple of what oneDNN's fast copies take at a time, but for the
// last part: measured 0.5 to 1.2 ns an element so, 1 to 2.5 in one part with an odd end.
constexpr std::int64_t copied_strip = 64, copied_length = 512;
static_assert(copied_length % packed_rows == 0 && copied_strip == packed_columns);

// Calls f(begin of the strip, its width, begin along it, length) for the parts of `width` x `length`.
template <class F>
void for_each_part(std::int64_t width, std::int64_t length, const F& f) {
  const std::int64_t parts = tile_count(length, copied_length);
  parallel_tiles(tile_count(width, copied_strip) * parts, 1, [&](std::int64_t index, std::int64_t, std::int64_t) {
    const std::int64_t strip = index / parts * copied_strip, begin = index % parts * copied_length;
    f(strip, std::min(copied_strip, width - strip), begin, std::min(copied_length, length - begin));
  });
}

// a as it is to be read: (M, K) without gaps. `copy` holds it where it was transposed.
const bfloat16* straight_a(const Operands& o, Tensor& copy) {
  if (!o.transpose_a) return o.a;
  const std::int64_t rows = o.key.M, columns = o.key.K;
  copy = empty(Shape{rows, columns}, DType::BFloat16);
  bfloat16* to = copy.data<bfloat16>();
  for_each_part(rows, columns, [&](std::int64_t row, std::int64_t height, std::int64_t column, std::int64_t width) {
    compiled<Copy>(CopyKey{height, width, 1, rows, columns}).run(o.a + column * rows + row, to + row * columns + column);
  });
  return to;
}

// b in oneDNN's order: blocks of columns, and in each the rows, filled up.
Tensor packed(const Operands& o) {
  const ProductKey& key = o.key;
  const std::int64_t rows = round_up(key.K, packed_rows);
  Tensor all = empty(Shape{round_up(key.N, packed_columns) * rows}, DType::BFloat16);
  bfloat16* to = all.data<bfloat16>();
  for_each_part(key.N, key.K, [&](std::int64_t column, std::int64_t width, std::int64_t row, std::int64_t height) {
    compiled<Copy>(CopyKey{height, width, key.b_row_step, key.b_column_step, 0})
        .run(o.b + row * key.b_row_step + column * key.b_column_step, to + column * rows + row * packed_columns);
  });
  return all;
}

// The size of a tile of [0, n): halved until there is work for 16 threads or a tile is down to `least` multiplications, of
// which each unit of n takes `work`. A function of the shape only.
std::int64_t tile_of(std::int64_t n, std::int64_t largest, std::int64_t unit, std::int64_t work, std::int64_t least) {
  std::int64_t tile = std::min(largest, round_up(n, unit));
  while (tile_count(n, tile) < 16 && tile > unit && tile * work > least) tile = round_up(tile / 2, unit);
  return tile;
}

// The tiles of [0, n), each `tile` long but the last; `key_of` says what product one of a size is.
class Tiles {
 public:
  template <class KeyOf>
  Tiles(std::int64_t n, std::int64_t tile, const KeyOf& key_of)
      : n_(n), tile_(std::min(tile, n)), whole_(compiled<Product>(key_of(tile_))), last_(n % tile_ == 0 ? whole_ : compiled<Product>(key_of(n % tile_))) {}

  bool are_there() const { return whole_.is_there() && last_.is_there(); }
  template <class F>
  void run(const F& f) const {
    parallel_tiles(n_, tile_, [&](std::int64_t begin, std::int64_t end, std::int64_t) { f(end - begin == tile_ ? whole_ : last_, begin); });
  }

 private:
  std::int64_t n_, tile_;
  const Product &whole_, &last_;
};

// False where oneDNN does not have the product; then nothing is done.
bool multiply_by_rows(const Operands& o) {
  const ProductKey& key = o.key;
  const Tiles tiles(key.M, tile_of(key.M, 256, 32, key.N * key.K, 1 << 22), [&key](std::int64_t rows) {
    ProductKey tile = key;
    tile.M = rows;
    tile.b_row_step = tile.b_column_step = 0;
    return tile;
  });
  if (!tiles.are_there()) return false;
  Tensor copy;
  const bfloat16* a = straight_a(o, copy);
  const Tensor b = packed(o);
  tiles.run([&](const Product& product, std::int64_t row) { product.run(a + row * key.K, b.raw(), o.bias, o.c + row * key.N * o.c_bytes); });
  return true;
}

bool multiply_by_columns(const Operands& o) {
  const ProductKey& key = o.key;
  const Tiles tiles(key.N, tile_of(key.N, key.N, 64, key.M * key.K, 1 << 20), [&key](std::int64_t columns) {
    ProductKey tile = key;
    tile.N = columns;
    return tile;
  });
  if (!tiles.are_there()) return false;
  Tensor copy;
  const bfloat16* a = straight_a(o, copy);
  tiles.run([&](const Product& product, std::int64_t column) {
    product.run(a, o.b + column * key.b_column_step, o.bias == nullptr ? nullptr : o.bias + column * o.bias_bytes, o.c + column * o.c_bytes);
  });
  return true;
}

}  // namespace

void multiply_bfloat16(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  MatmulSizes s = sizes_of(a, b, c, flags);
  if (s.M == 0 || s.N == 0) return;
  if (s.K == 0) return multiply_widened(a, b, bias, c, flags);
  if (s.b_step == 0 && s.a_step != 0 && !flags.transpose_a) s.M *= std::exchange(s.batch, 1);  // one matrix of many rows
  const std::int64_t c_bytes = static_cast<std::int64_t>(size_of(c.dtype()));
  const ProductKey key{s.M, s.N, s.K, flags.transpose_b ? 1 : s.b_columns, flags.transpose_b ? s.b_columns : 1, s.N,
                       bias.defined() ? type_of(bias.dtype()) : memory::data_type::undef, type_of(c.dtype()), flags.beta};
  for (std::int64_t i = 0; i < s.batch; ++i) {
    const Operands operands{.key = key,
                            .transpose_a = flags.transpose_a,
                            .a = a.data<bfloat16>() + i * s.a_step,
                            .b = b.data<bfloat16>() + i * s.b_step,
                            .bias = bias.defined() ? static_cast<const std::byte*>(bias.raw()) : nullptr,
                            .c = static_cast<std::byte*>(c.raw()) + i * s.M * s.N * c_bytes,
                            .bias_bytes = bias.defined() ? static_cast<std::int64_t>(size_of(bias.dtype())) : 0,
                            .c_bytes = c_bytes};
    const bool done = s.M < fewest_packed_rows ? multiply_by_columns(operands) : multiply_by_rows(operands);
    if (!done) return multiply_widened(a, b, bias, c, flags);  // at the first one, or never
  }
}

#else

void multiply_bfloat16(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  multiply_widened(a, b, bias, c, flags);
}

#endif

}  // namespace mblm
