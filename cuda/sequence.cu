#include "ops/sequence.h"

#include "cuda/copy_runs.h"

namespace mblm::cuda {
namespace {

// ---- stage_input_forward

// An array that is float32 or bfloat16, or missing. Every thread of a launch takes the same branch.
struct Source {
  const void* data = nullptr;
  bool is_bfloat16 = false;

#if defined(__CUDACC__) || defined(EMULATED_CUDA)
  template <int N>
  __device__ __forceinline__ void read(float (&v)[N], std::int64_t i) const {
    if (is_bfloat16)
      read_pack(v, static_cast<const bfloat16*>(data) + i);
    else
      read_pack(v, static_cast<const float*>(data) + i);
  }
  template <int N>
  __device__ __forceinline__ void add(float (&v)[N], std::int64_t i) const {
    if (data == nullptr) return;
    float more[N];
    read(more, i);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] += more[j];
  }
#endif
};

struct StageInput {
  Source start, x, positions, above;
  const std::int64_t* offsets;  // may be null
  float* y;
  std::int64_t rows, sequence_rows;  // of y
  int start_rows, width, lanes;
};

constexpr int stage_threads = 256;

// `lanes` threads per row of y, each of which computes every lanes-th pack of N columns; so a row's place is computed once per thread.
// bfloat16 x and above, float32 positions from the L2 cache: 8 bytes and 2 additions per element. The largest sum has three terms.
template <int N>
__global__ void __launch_bounds__(stage_threads) stage_rows(StageInput in) {
  const int lane = static_cast<int>(threadIdx.x) % in.lanes;
  const std::int64_t row = std::int64_t{blockIdx.x} * (stage_threads / in.lanes) + static_cast<int>(threadIdx.x) / in.lanes;
  if (row >= in.rows) return;
  const std::int64_t sequence = row / in.sequence_rows, token = row - sequence * in.sequence_rows;
  const std::int64_t position = (in.offsets == nullptr ? 0 : in.offsets[sequence]) + token - in.start_rows;
  const std::int64_t from = (in.offsets == nullptr ? row - (sequence + 1) * in.start_rows : row) * in.width;
#pragma unroll 4
  for (int column = lane * N; column < in.width; column += in.lanes * N) {
    float v[N];
    if (position < 0) {
      in.start.read(v, column);
    } else {
      in.x.read(v, from + column);
      in.positions.add(v, position * in.width + column);
      in.above.add(v, from + column);
    }
    write_pack<N>(in.y + row * in.width + column, v);
  }
}

Source source_of(const char* kernel, const Tensor& x) {
  if (!x.defined()) return {};
  require<DTypeError>(x.dtype() == DType::Float32 || x.dtype() == DType::BFloat16, kernel, ": expected float32 or bfloat16 on a GPU, got ", x.dtype());
  return {raw(x), x.dtype() == DType::BFloat16};
}
// True if packs of N elements can be read.
template <int N>
bool has_packs(const Source& source) {
  return is_aligned(source.data, N * (source.is_bfloat16 ? sizeof(bfloat16) : sizeof(float)));
}

void stage_input(const Tensor& start, const Tensor& x, const Tensor& positions, const Tensor& above, const Tensor& offsets, Tensor& y) {
  constexpr int N = 4;  // 16 bytes of y
  const auto source = [](const Tensor& tensor) { return source_of("stage_input_forward", tensor); };
  StageInput in{source(start), source(x), source(positions), source(above), offsets.defined() ? data<std::int64_t>(offsets) : nullptr, data<float>(y),
                y.size(0) * y.size(1), y.size(1), start.defined() ? 1 : 0, static_cast<int>(x.size(2)), 0};
  if (in.width == 0) return;
  const bool packed = in.width % N == 0 && has_packs<N>(in.start) && has_packs<N>(in.x) && has_packs<N>(in.positions) && has_packs<N>(in.above) &&
                      is_aligned(in.y, N * sizeof(float));
  const std::int64_t packs = packed ? in.width / N : in.width;
  in.lanes = packs <= 64 ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(packs))) : packs <= 256 ? 64 : stage_threads;
  const unsigned blocks = blocks_for(in.rows, stage_threads / in.lanes);
  if (packed)
    launch<stage_rows<N>>(blocks, stage_threads, 0, in);
  else
    launch<stage_rows<1>>(blocks, stage_threads, 0, in);
}

// ---- copies of rows

// One run per sequence.
struct Sequences {
  char* to;
  const char* from;
  std::int64_t to_stride, from_stride, bytes;
  __device__ Run operator()(std::int64_t sequence) const { return {to + sequence * to_stride, from + sequence * from_stride, bytes}; }
};

void copy(const Tensor& from, std::int64_t from_begin, Tensor& to, std::int64_t to_begin, std::int64_t count) {
  std::int64_t row = bytes_of(from, 1);
  for (int axis = 2; axis < from.rank(); ++axis) row *= from.size(axis);
  const Sequences runs{static_cast<char*>(raw(to)) + to_begin * row, static_cast<const char*>(raw(from)) + from_begin * row, to.size(1) * row,
                       from.size(1) * row, count * row};
  copy_runs(runs, from.size(0), runs.bytes, Alignment().with(runs.to).with(runs.from).with(runs.to_stride).with(runs.from_stride).with(runs.bytes));
}

void stage_input_gradient(const Tensor& dy, bool has_start, Tensor& dx) { copy(dy, has_start ? 1 : 0, dx, 0, dx.size(1)); }

// One run per row of y (B, count, D), from x (B, P, 1 + T, D). Row 1 + i of the flattened outputs is row 1 + i % T of patch i / T.
struct Flatten {
  char* y;
  const char* x;
  std::int64_t first, count, patches, tokens, bytes;
  __device__ Run operator()(std::int64_t i) const {
    const std::int64_t sequence = i / count, row = first + i - sequence * count, patch = row == 0 ? 0 : (row - 1) / tokens;
    return {y + i * bytes, x + (sequence * patches * (tokens + 1) + patch + row) * bytes, bytes};
  }
};
// One run per row of dx: its row of dy, or zeros.
struct FlattenGradient {
  char* dx;
  const char* dy;
  std::int64_t first, count, patches, tokens, bytes;
  __device__ Run operator()(std::int64_t i) const {
    const std::int64_t sequence_patch = i / (tokens + 1), in_patch = i - sequence_patch * (tokens + 1), sequence = sequence_patch / patches,
                       patch = sequence_patch - sequence * patches, row = patch * tokens + in_patch - first;
    const bool used = (in_patch > 0 || patch == 0) && row >= 0 && row < count;
    return {dx + i * bytes, used ? dy + (sequence * count + row) * bytes : nullptr, bytes};
  }
};

void flatten(const Tensor& x, std::int64_t first, Tensor& y) {
  const Flatten runs{static_cast<char*>(raw(y)), static_cast<const char*>(raw(x)), first, y.size(1), x.size(1), x.size(2) - 1, bytes_of(x, x.size(3))};
  copy_runs(runs, y.size(0) * y.size(1), runs.bytes, Alignment().with(runs.y).with(runs.x).with(runs.bytes));
}

void flatten_gradient(const Tensor& dy, std::int64_t first, Tensor& dx) {
  const FlattenGradient runs{static_cast<char*>(raw(dx)), static_cast<const char*>(raw(dy)), first, dy.size(1), dx.size(1), dx.size(2) - 1,
                             bytes_of(dx, dx.size(3))};
  copy_runs(runs, dx.size(0) * dx.size(1) * dx.size(2), runs.bytes, Alignment().with(runs.dx).with(runs.dy).with(runs.bytes));
}

const bool added = add_kernel(stage_input_forward, stage_input) && add_kernel(stage_input_backward, stage_input_gradient, all_dtypes) &&
                   add_kernel(flatten_patches_forward, flatten, all_dtypes) && add_kernel(flatten_patches_backward, flatten_gradient, all_dtypes) &&
                   add_kernel(copy_sequence, copy, all_dtypes);

}  // namespace
}  // namespace mblm::cuda
