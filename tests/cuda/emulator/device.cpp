// Devices, their properties, and the errors of the runtime.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/cuda/emulator/block.h"
#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/memory.h"
#include "tests/cuda/emulator/stream.h"

namespace emulator {
namespace {

thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;

Settings settings_of_environment() {
  Settings s;
  if (const char* order = std::getenv("MBLM_EMULATOR_ORDER")) {
    if (std::strcmp(order, "reverse") == 0)
      s.order = Order::Reverse;
    else if (std::strcmp(order, "random") == 0)
      s.order = Order::Random;
    else if (std::strcmp(order, "forward") != 0)
      throw Error("MBLM_EMULATOR_ORDER: expected forward, reverse or random");
  }
  if (const char* seed = std::getenv("MBLM_EMULATOR_SEED")) s.seed = std::strtoull(seed, nullptr, 10);
  if (const char* devices = std::getenv("MBLM_EMULATOR_DEVICES")) s.devices = std::atoi(devices);
  if (const char* dry = std::getenv("MBLM_EMULATOR_DRY")) s.dry = std::strcmp(dry, "0") != 0;
  if (const char* protect = std::getenv("MBLM_EMULATOR_PROTECT")) s.protect = std::strcmp(protect, "0") != 0;
  return s;
}

struct Total {
  Counts counts;
  ~Total() {
    if (std::getenv("MBLM_EMULATOR_COUNT") == nullptr) return;
    std::fprintf(stderr, "emulator: %.1f k launches, %.1f k graphs, %.1f k blocks, %.2f M switches, %llu allocations, %llu waits\n",
                 static_cast<double>(counts.launches) / 1e3, static_cast<double>(counts.graph_launches) / 1e3,
                 static_cast<double>(counts.blocks) / 1e3, static_cast<double>(counts.switches) / 1e6,
                 static_cast<unsigned long long>(counts.allocations), static_cast<unsigned long long>(counts.waits));
  }
} total;

}  // namespace

Settings& settings() {
  static Settings all = settings_of_environment();
  return all;
}

Counts& counts() { return total.counts; }

std::recursive_mutex& emulator_mutex() {
  static std::recursive_mutex& mutex = *new std::recursive_mutex;
  return mutex;
}

int current_device() { return device; }

cudaError_t set_error(cudaError_t error) { return last_error = error; }

}  // namespace emulator

using namespace emulator;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureMerge:
      return "operation would result in a merge of separate capture sequences";
    case cudaErrorStreamCaptureUnmatched:
      return "capture was not ended in the same stream as it began";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    case cudaErrorStreamCaptureWrongThread:
      return "attempt to terminate a thread-local capture sequence from another thread";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = settings().devices;
  return *count > 0 ? cudaSuccess : set_error(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* found) {
  *found = device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int wanted) {
  if (wanted < 0 || wanted >= settings().devices) return set_error(cudaErrorInvalidDevice);
  device = wanted;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int of) {
  if (of < 0 || of >= settings().devices) return set_error(cudaErrorInvalidDevice);
  *p = {};
  p->uuid.bytes[0] = static_cast<char>(of + 1);
  std::snprintf(p->name, sizeof p->name, "emulated");
  p->totalGlobalMem = settings().memory_bytes;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = settings().shared_bytes;
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = 4;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int of) {
  if (of < 0 || of >= settings().devices) return set_error(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(settings().shared_bytes);
      return cudaSuccess;
  }
  return set_error(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
