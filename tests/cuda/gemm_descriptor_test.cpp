// cuBLASLt's descriptors of every product of a training step of the published models, built by the library and read back. Needs the library,
// not a GPU: the step runs on a device whose kernels do nothing.
#include <doctest/doctest.h>

#include <map>

#include "cuda/cublaslt.h"
#include "cuda/matmul.h"
#include "engine/kernel_data.h"
#include "mblm/model.h"
#include "tests/cuda/null_device.h"
#include "train/step_runner.h"

namespace mblm::testing {
namespace {

using namespace cuda;

struct Product {
  Gemm gemm;
  GemmAlignment alignment;
  auto operator<=>(const Product&) const = default;
};
struct Elements {
  std::int64_t a, b, c;  // of the tensors
};
std::map<Product, Elements> recorded;

void record_product(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& c, const MatmulFlags& flags) {
  const Product product{gemm_of(a, b, bias, c, flags), {gemm_alignment(raw(a)), gemm_alignment(raw(b)), gemm_alignment(raw(c))}};
  recorded.emplace(product, Elements{a.numel(), b.numel(), c.numel()});
}

// The products of a training step with one layer per stage: further layers repeat them.
const std::map<Product, Elements>& products_of(const std::string& name, DType precision) {
  static const bool once = [] {
    matmul_forward.add(DeviceKind::Cuda, {DType::Float32, DType::BFloat16}, record_product);
    add_null_device();
    return true;
  }();
  (void)once;
  recorded.clear();
  const std::filesystem::path path = std::filesystem::path(MBLM_CONFIGS) / (name + ".yaml");
  const RunConfig run = read_run_config(path, BlockRegistry());
  std::string layers;
  for (int stage = 0; stage < run.model.stages(); ++stage) layers += stage == 0 ? "[1" : ", 1";
  const RunConfig config = read_run_config(path, BlockRegistry(), {"params.num_layers=" + layers + "]"});
  Model model(config.model);
  model.allocate(null_device, precision);
  StepRunner runner(model, 1, {});
  runner.micro_step(prepare_input(config.model, zeros(Shape{config.train.batch_size, config.input_seq_len}, DType::Int64)), {.training = true});
  return recorded;
}

template <class T, class Descriptor, class Attribute, class Get>
T read(Get get, const Descriptor& descriptor, Attribute attribute) {
  T value{};
  std::size_t written = 0;
  check(get(descriptor.get(), attribute, &value, sizeof value, &written));
  REQUIRE(written == sizeof value);
  return value;
}

struct Layout {
  cudaDataType type;
  std::uint64_t rows, columns;
  std::int64_t step, stride;
  std::int32_t batch;

  std::int64_t elements() const {
    return (batch - 1) * stride + (static_cast<std::int64_t>(columns) - 1) * step + static_cast<std::int64_t>(rows);
  }
};

Layout read_layout(const LayoutDescriptor& d) {
  const auto get = cublaslt().get_layout;
  CHECK(read<std::int32_t>(get, d, CUBLASLT_MATRIX_LAYOUT_ORDER) == CUBLASLT_ORDER_COL);
  return {static_cast<cudaDataType>(read<std::uint32_t>(get, d, CUBLASLT_MATRIX_LAYOUT_TYPE)), read<std::uint64_t>(get, d, CUBLASLT_MATRIX_LAYOUT_ROWS),
          read<std::uint64_t>(get, d, CUBLASLT_MATRIX_LAYOUT_COLS), read<std::int64_t>(get, d, CUBLASLT_MATRIX_LAYOUT_LD),
          read<std::int64_t>(get, d, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET), read<std::int32_t>(get, d, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)};
}

// Reads the descriptors as cuBLASLt does: D (rows x columns) = op(A) op(B), all column-major.
void check_product(const Product& product, const Elements& elements) {
  const auto& [gemm, alignment] = product;
  const std::string text = concat_text(gemm.m, " x ", gemm.k, " x ", gemm.n, gemm.transpose_a ? " T" : " N", gemm.transpose_b ? "T " : "N ", gemm.input,
                                       " to ", gemm.output, ", batch ", gemm.batch, ", beta ", gemm.beta);
  CAPTURE(text);
  const GemmDescriptors d(gemm, alignment);
  const Layout left = read_layout(d.left), right = read_layout(d.right), result = read_layout(d.result);
  const auto get = cublaslt().get_product;
  const bool transpose_left = read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T;
  const bool transpose_right = read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
  CHECK(read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE) == CUBLAS_COMPUTE_32F);
  CHECK(read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_SCALE_TYPE) == CUDA_R_32F);
  CHECK(read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_EPILOGUE) == (gemm.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT));
  if (gemm.bias) CHECK(read<std::int32_t>(get, d.product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE) == result.type);

  CHECK(result.rows == static_cast<std::uint64_t>(gemm.n));
  CHECK(result.columns == static_cast<std::uint64_t>(gemm.m));
  CHECK((transpose_left ? left.columns : left.rows) == result.rows);
  CHECK((transpose_right ? right.rows : right.columns) == result.columns);
  CHECK((transpose_left ? left.rows : left.columns) == (transpose_right ? right.columns : right.rows));
  CHECK((transpose_left ? left.rows : left.columns) == static_cast<std::uint64_t>(gemm.k));
  for (const Layout& layout : {left, right, result}) {
    CHECK(layout.step >= static_cast<std::int64_t>(layout.rows));
    CHECK(layout.batch == gemm.batch);
  }
  CHECK(left.elements() == elements.b);  // every element of the tensors is used: leading dimensions and strides are right
  CHECK(right.elements() == elements.a);
  CHECK(result.elements() == elements.c);
  CHECK(left.type == (gemm.input == DType::BFloat16 ? CUDA_R_16BF : CUDA_R_32F));
  CHECK(right.type == left.type);
  CHECK(result.type == (gemm.output == DType::BFloat16 ? CUDA_R_16BF : CUDA_R_32F));

  const auto get_preference = cublaslt().get_preference;
  CHECK(read<std::uint64_t>(get_preference, d.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) == gemm_workspace_bytes);
  CHECK(read<std::uint32_t>(get_preference, d.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) == reduction_schemes(gemm.output));
  CHECK(read<std::uint32_t>(get_preference, d.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES) == alignment.b);
  CHECK(read<std::uint32_t>(get_preference, d.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES) == alignment.a);
  CHECK(read<std::uint32_t>(get_preference, d.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES) == alignment.c);
}

const char* const models[] = {"pg19_1d_t", "pg19_2d_ss", "pg19_2d_st", "pg19_3d_stt", "clevr_1d_s_ft"};

// Whether cuBLASLt is on this machine; says so if not.
bool can_run() {
  const Library library("cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12"});
  if (!library.problem().empty()) MESSAGE("skipped: ", library.problem());
  return library.problem().empty();
}

}  // namespace

TEST_CASE("cuBLASLt describes the products of a training step as they are") {
  if (!can_run()) return;
  for (const char* name : models)
    for (const DType precision : {DType::Float32, DType::BFloat16}) {
      CAPTURE(name);
      CAPTURE(concat_text(precision));
      const std::map<Product, Elements>& products = products_of(name, precision);
      CHECK(products.size() >= 9);  // forward, dx and dw of two linear layers and the logits
      for (const auto& [product, elements] : products) check_product(product, elements);
    }
}

// Tensor cores read 16 bytes at a time: other addresses or leading dimensions select much slower kernels.
TEST_CASE("addresses and rows of the published models' bfloat16 products are multiples of 16 bytes") {
  for (const char* name : models)
    for (const auto& [product, elements] : products_of(name, DType::BFloat16)) {
      CAPTURE(name);
      const auto& [gemm, alignment] = product;
      CHECK(gemm.input == DType::BFloat16);
      CHECK((alignment == GemmAlignment{16, 16, 16}));
      for (const std::int64_t step : {gemm.lda, gemm.ldb}) CHECK(step % 8 == 0);
      CHECK(gemm.ldc * static_cast<std::int64_t>(size_of(gemm.output)) % 16 == 0);
    }
}

TEST_CASE("weight gradients of the bfloat16 mode are added to the float32 arena") {
  int count = 0;
  for (const auto& [product, elements] : products_of("pg19_2d_st", DType::BFloat16))
    if (product.gemm.beta == 1) {
      ++count;
      CHECK(product.gemm.output == DType::Float32);
      CHECK(product.gemm.transpose_a);
    }
  CHECK(count >= 3);
}

TEST_CASE("an odd address or a batch with one shared matrix is described as such") {
  if (!can_run()) return;
  const Gemm shared{.m = 5, .n = 7, .k = 3, .transpose_b = true, .input = DType::BFloat16, .output = DType::BFloat16, .lda = 3, .ldb = 3, .ldc = 7,
                    .batch = 4, .stride_a = 0, .stride_b = 21, .stride_c = 35, .bias = true, .beta = 1};
  check_product({shared, {2, 4, 8}}, {15, 84, 140});
  CHECK(gemm_alignment(reinterpret_cast<const void*>(0x1002)) == 2);
  CHECK(gemm_alignment(reinterpret_cast<const void*>(0x1000)) == 16);
}

}  // namespace mblm::testing
