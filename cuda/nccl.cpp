#include "cuda/nccl.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "cuda/device_state.h"
#include "cuda/library.h"
#include "engine/kernel_data.h"

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

namespace mblm::cuda {
namespace {

// NCCL's interface, version 2, as far as it is used: the library is opened at run time, and its header is not needed to build.
struct UniqueId {
  char bytes[128];
};
using Communicator = void*;
constexpr int success = 0, type_uint8 = 1, type_float32 = 7, operation_sum = 0;
#ifdef NCCL_MAJOR
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId) && success == ncclSuccess && type_uint8 == ncclUint8 && type_float32 == ncclFloat32 &&
              operation_sum == ncclSum);
#endif

// The functions of the library. Throws DeviceError if the library is missing.
struct Nccl {
  explicit Nccl(const Library& library = Library("NCCL", {"libnccl.so.2"}))
      : get_unique_id(library.function("ncclGetUniqueId")),
        init_rank(library.function("ncclCommInitRank")),
        destroy(library.function("ncclCommDestroy")),
        all_reduce(library.function("ncclAllReduce")),
        broadcast(library.function("ncclBroadcast")),
        error_text(library.function("ncclGetErrorString")) {}

  int (*get_unique_id)(UniqueId*);
  int (*init_rank)(Communicator*, int ranks, UniqueId, int rank);
  int (*destroy)(Communicator);
  int (*all_reduce)(const void* from, void* to, std::size_t count, int type, int operation, Communicator, cudaStream_t);
  int (*broadcast)(const void* from, void* to, std::size_t count, int type, int root, Communicator, cudaStream_t);
  const char* (*error_text)(int);
};

class NcclCollective final : public Collective {
 public:
  NcclCollective(const Nccl& nccl, Communicator communicator, int index, int rank, int size)
      : nccl_(nccl), communicator_(communicator), index_(index), rank_(rank), size_(size) {}
  ~NcclCollective() override { nccl_.destroy(communicator_); }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(Tensor& x) override {
    require_here(x);
    const auto count = static_cast<std::size_t>(x.numel());
    check(nccl_.all_reduce(data<float>(x), data<float>(x), count, type_float32, operation_sum, communicator_, enter_device(index_).compute));
  }
  void broadcast(Tensor& x) override {
    require_here(x);
    check(nccl_.broadcast(raw(x), raw(x), x.bytes(), type_uint8, 0, communicator_, enter_device(index_).compute));
  }

 private:
  void require_here(const Tensor& x) const {
    const Device device{DeviceKind::Cuda, index_};
    require<DeviceError>(x.device() == device, "NCCL: expected a tensor on ", device, ", got one on ", x.device());
  }
  void check(int status) const { require<DeviceError>(status == success, "NCCL: ", nccl_.error_text(status)); }

  const Nccl nccl_;
  const Communicator communicator_;
  const int index_, rank_, size_;
};

// Identifies a GPU across processes and containers.
std::string gpu_of(int index) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, index));
  return std::string(reinterpret_cast<const char*>(&p.uuid), sizeof p.uuid);
}

// The first text that is not empty.
std::string first_reason(const std::vector<std::string>& reasons) {
  const auto found = std::find_if(reasons.begin(), reasons.end(), [](const std::string& text) { return !text.empty(); });
  return found == reasons.end() ? "" : *found;
}

}  // namespace

// Each exchange is made by all workers, whatever they found before.
std::unique_ptr<Collective> open_nccl(int index, int rank, int size, const Exchange& exchange, const std::function<void(const std::string&)>& on_note) {
  std::optional<Nccl> opened;
  std::string problem;
  try {
    opened.emplace();
  } catch (const DeviceError& error) {
    problem = error.what();
  }
  std::string reason = first_reason(exchange(problem));
  const std::vector<std::string> gpus = exchange(gpu_of(index));
  if (reason.empty() && std::set<std::string>(gpus.begin(), gpus.end()).size() < gpus.size()) reason = "several workers share a GPU";
  if (reason.empty()) {
    const Nccl& nccl = *opened;
    UniqueId id{};
    int status = rank == 0 ? nccl.get_unique_id(&id) : success;
    const std::string first = exchange(std::string(id.bytes, sizeof id.bytes)).front();
    std::memcpy(id.bytes, first.data(), sizeof id.bytes);
    Communicator communicator = nullptr;
    if (status == success) status = nccl.init_rank(&communicator, size, id, rank);
    reason = first_reason(exchange(status == success ? "" : nccl.error_text(status)));
    if (reason.empty()) return std::make_unique<NcclCollective>(nccl, communicator, index, rank, size);
    if (communicator != nullptr) nccl.destroy(communicator);
  }
  if (on_note) on_note(concat_text(reason, "; gradients are summed through host memory"));
  return nullptr;
}

}  // namespace mblm::cuda
