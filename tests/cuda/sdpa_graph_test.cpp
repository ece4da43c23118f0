// cuDNN recognises the graphs of attention: it proposes engines for them on GPUs that are described, not present.
#include <doctest/doctest.h>

#include <string>

#include "cuda/sdpa_graph.h"
#include "engine/error.h"

namespace mblm::cuda {
namespace {

constexpr std::size_t described_devices = 91100;  // cuDNN accepts described devices since this version

struct Gpu {
  const char* name;
  int capability, multiprocessors, shared_bytes;
};
constexpr Gpu gpus[] = {{"NVIDIA H100 80GB HBM3", 900, 132, 232448}, {"NVIDIA A100-SXM4-80GB", 800, 108, 166912}};

// cuDNN's own text form of the properties of a device.
CudnnDescriptor describe(const Gpu& gpu) {
  const std::string text = concat_text(
      R"({"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "multiProcessorCount": )",
      gpu.multiprocessors, R"(, "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": )", gpu.shared_bytes,
      R"(, "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,)"
      R"( "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1500000, "memClockRateKHz": 2000000, "l2CacheSize": 41943040,)"
      R"( "deviceName": ")", gpu.name, R"(", "deviceVer": )", gpu.capability,
      R"(, "cudaDeviceId": 0, "driverVer": 13000, "totalGlobalMem": 85029158912})");
  CudnnDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(text.size()) + 1, text.c_str());
  device.finalize();
  return device;
}

}  // namespace

TEST_CASE("cuDNN proposes engines for the graphs of attention") {
  const Library library("cuDNN", {"libcudnn.so.9"});
  if (!library.problem().empty() || cudnn().version() < described_devices) {
    MESSAGE("skipped: ", library.problem().empty() ? "cuDNN is older than 9.11" : library.problem());
    return;
  }
  for (const Gpu& gpu : gpus) {
    const CudnnDescriptor device = describe(gpu);
    for (const bool causal : {true, false})
      for (const bool backward : {true, false})
        // Shapes of the published models, then lengths that are no multiple of a tile, and other head sizes.
        for (const AttentionProblem& p : {AttentionProblem{4, 8192, 16, 64, causal, backward}, AttentionProblem{6, 1024, 16, 64, causal, backward},
                                          AttentionProblem{1, 8193, 16, 64, causal, backward}, AttentionProblem{2, 131, 3, 128, causal, backward},
                                          AttentionProblem{2, 128, 4, 40, causal, backward}}) {
          const std::string text = concat_text(gpu.name, ": ", p.batch, " x ", p.tokens, ", ", p.heads, " heads of ", p.head_size, causal ? ", causal" : "",
                                               backward ? ", backward" : "");
          CAPTURE(text);
          AttentionGraph attention(p);
          // cuDNN has one proposal for a graph that it does not recognise as attention, and at least 3 for these.
          CHECK(attention.graph.count_proposals(device) >= (p.head_size == 64 ? 3 : 1));
        }
  }
}

}  // namespace mblm::cuda
