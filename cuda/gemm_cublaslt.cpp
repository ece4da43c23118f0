// Products by cuBLASLt. Its choice of an algorithm is asked for once per product; the first answer is used, so that two runs agree.
#include "cuda/gemm.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "cuda/cublaslt.h"
#include "cuda/launch.h"
#include "cuda/relaxed_capture.h"

namespace mblm::cuda {
namespace {

struct Plan {
  GemmDescriptors descriptors;
  std::optional<cublasLtMatmulAlgo_t> algorithm;  // none: the library refuses the product
};

// The library and its plans on one device.
class Products {
 public:
  Products() {
    const RelaxedCapture relaxed;
    check(cublaslt().create(&handle_));
    check(cudaMalloc(&workspace_, gemm_workspace_bytes));
  }

  bool run(const Gemm& product, const void* a, const void* b, const void* bias, void* c) {
    const std::lock_guard lock(mutex_);  // the bias is part of the plan's descriptor until the product is started
    const Plan& plan = plan_for(product, {gemm_alignment(a), gemm_alignment(b), gemm_alignment(c)});
    if (!plan.algorithm) return false;
    const GemmDescriptors& d = plan.descriptors;
    if (product.bias) check(cublaslt().set_product(d.product.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    const float alpha = 1;
    check(cublaslt().matmul(handle_, d.product.get(), &alpha, b, d.left.get(), a, d.right.get(), &product.beta, c, d.result.get(), c, d.result.get(),
                            &*plan.algorithm, workspace_, gemm_workspace_bytes, compute_stream()));
    return true;
  }

 private:
  const Plan& plan_for(Gemm product, const GemmAlignment& alignment) {
    if (product.beta != 0) product.beta = 1;  // its value is not part of the plan
    const auto key = std::pair(product, alignment);
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
    const RelaxedCapture relaxed;
    Plan plan{GemmDescriptors(product, alignment), {}};
    const GemmDescriptors& d = plan.descriptors;
    cublasLtMatmulHeuristicResult_t first{};
    int count = 0;
    const cublasStatus_t status = cublaslt().heuristics(handle_, d.product.get(), d.left.get(), d.right.get(), d.result.get(), d.result.get(),
                                                        d.preference.get(), 1, &first, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status);
    if (status == CUBLAS_STATUS_SUCCESS && count > 0 && first.state == CUBLAS_STATUS_SUCCESS) plan.algorithm = first.algo;
    return plans_.emplace(key, std::move(plan)).first->second;
  }

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;  // shared by all products: they follow each other on the compute stream
  std::map<std::pair<Gemm, GemmAlignment>, Plan> plans_;
};

// Of the current device; never destroyed, because the driver may be gone when the program ends.
Products& products() {
  static std::mutex mutex;
  static auto* const all = new std::map<int, std::unique_ptr<Products>>;
  int device = 0;
  check(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  std::unique_ptr<Products>& products = (*all)[device];
  if (products == nullptr) products = std::make_unique<Products>();
  return *products;
}

}  // namespace

bool gemm(const Gemm& product, const void* a, const void* b, const void* bias, void* c) {
  const bool started = products().run(product, a, b, bias, c);
  require<DeviceError>(started || product.bias, "cuBLASLt: no algorithm for the product of ", product.m, " x ", product.k, " and ", product.k, " x ",
                       product.n, " in ", product.input, ", to ", product.output);
  return started;
}

}  // namespace mblm::cuda
