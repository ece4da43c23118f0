// Streams, events and copies. Work waits in its stream until somebody waits for it.
#include "tests/cuda/emulator/stream.h"

#include <chrono>
#include <cstring>
#include <exception>
#include <map>

#include "tests/cuda/emulator/access.h"
#include "tests/cuda/emulator/block.h"

struct CUstream_st {};
struct CUevent_st {
  std::shared_ptr<emulator::EventState> state = std::make_shared<emulator::EventState>();
};

namespace emulator {
namespace {

// Never destroyed: work may be left when the program ends.
struct Streams {
  std::map<cudaStream_t, std::shared_ptr<Stream>> all;
  std::set<cudaEvent_t> events;
  std::exception_ptr kept_error;
  Random coin;
  bool coin_is_seeded = false;
};
Streams& streams() {
  static Streams& all = *new Streams;
  return all;
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;  // how strict captures are for this thread's calls

// A query runs nothing, except that each so many run what they ask for: a loop that waits by asking must end.
constexpr std::uint64_t queries_until_finished = 16;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What comes after a failed operation is dropped: it might work on what is not there.
void drop_all_work() {
  for (auto& [handle, stream] : streams().all) {
    stream->finished = stream->added;
    stream->work.clear();
  }
}

void finish_all() {
  for (auto& [handle, stream] : std::map(streams().all)) finish(*stream, stream->added);
}

bool runs_at_once(const Stream& stream) {
  if (settings().order == Order::Forward) return false;
  if (settings().order == Order::Reverse) return !stream.is_oldest;
  if (!streams().coin_is_seeded) streams().coin.state = settings().seed;
  streams().coin_is_seeded = true;
  return streams().coin.below(2) == 0;
}

std::shared_ptr<EventState> state_of(cudaEvent_t event) { return streams().events.count(event) != 0 ? event->state : nullptr; }

}  // namespace

void finish(Stream& stream, std::uint64_t until) {
  if (stream.finished >= until || stream.work.empty()) return;
  const Reachable open;  // once for all that waits
  try {
    while (stream.finished < until && !stream.work.empty()) {
      const Work work = std::move(stream.work.front());
      stream.work.pop_front();
      ++stream.finished;
      const int device = current_device();
      cudaSetDevice(stream.device);
      work.run();
      cudaSetDevice(device);
    }
  } catch (...) {
    drop_all_work();
    throw;
  }
}

cudaError_t finish_all_quietly() {
  try {
    finish_all();
    return cudaSuccess;
  } catch (...) {
    keep_error();
    return set_error(cudaErrorLaunchFailure);
  }
}

void throw_kept_error() {
  if (streams().kept_error != nullptr) std::rethrow_exception(std::exchange(streams().kept_error, nullptr));
}

std::shared_ptr<Stream> stream_of(cudaStream_t handle) {
  const auto found = streams().all.find(handle);
  return found == streams().all.end() ? nullptr : found->second;
}

void count(const Work& work) {
  if (work.kind != nullptr) ++(counts().*work.kind);
  if (work.size != nullptr) counts().*work.size += work.bytes;
}

void add_work(cudaStream_t handle, Work work) {
  const std::lock_guard lock(emulator_mutex());
  throw_kept_error();
  if (settings().dry && work.kind != nullptr && work.kind != &Counts::copies_to_host) work.run = [] {};
  if (handle == nullptr) {  // the default stream waits for all others
    if (refuse_during_capture() != cudaSuccess) throw Error("the default stream is used during a capture");
    finish_all();
    count(work);
    const Reachable open;
    return work.run();
  }
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) throw Error("work for a stream that does not exist");
  if (stream->device != current_device())
    throw Error("work for a stream of device " + std::to_string(stream->device) + " while device " + std::to_string(current_device()) +
                " is current");
  if (stream->capture != nullptr) {
    CUgraph_st& graph = stream->capture->graph;
    graph.nodes.push_back({std::move(work), stream->last});
    stream->last = {graph.nodes.size() - 1};
    return;
  }
  count(work);
  stream->work.push_back(std::move(work));
  ++stream->added;
  if (runs_at_once(*stream)) finish(*stream, stream->added);
}

void enqueue(cudaStream_t stream, std::function<void()> work, std::uint64_t bytes) {
  add_work(stream, {std::move(work), &Counts::launches, &Counts::library_bytes, bytes});
}

void launch(cudaStream_t stream, const char* name, Dim grid, Dim block, std::size_t shared_bytes, std::function<void()> body) {
  check_launch(name, grid, block, shared_bytes);
  enqueue(stream, [=, body = std::move(body)] { run(name, grid, block, shared_bytes, body); });
}

void keep_error() { streams().kept_error = std::current_exception(); }

bool is_capturing(cudaStream_t handle) {
  const std::shared_ptr<Stream> stream = stream_of(handle);
  return stream != nullptr && stream->capture != nullptr;
}

void spoil(Capture& capture) { capture.valid = false; }

cudaError_t refuse_during_capture() {
  cudaError_t status = cudaSuccess;
  if (thread_mode == cudaStreamCaptureModeRelaxed) return status;
  for (const auto& [handle, stream] : streams().all) {
    Capture* capture = stream->capture.get();
    if (capture == nullptr || capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool any_thread = capture->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
    if (!any_thread && capture->thread != std::this_thread::get_id()) continue;
    spoil(*capture);
    status = set_error(cudaErrorStreamCaptureUnsupported);
  }
  return status;
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

// ---- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned) {
  const std::lock_guard lock(emulator_mutex());
  auto stream = std::make_shared<Stream>();
  stream->device = current_device();
  stream->is_oldest = true;
  for (const auto& [other, at] : streams().all)
    if (at->device == stream->device) stream->is_oldest = false;
  *handle = new CUstream_st;
  streams().all[*handle] = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* handle) { return cudaStreamCreateWithFlags(handle, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned flags, int) { return cudaStreamCreateWithFlags(handle, flags); }

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  const cudaError_t status = finish_all_quietly();
  streams().all.erase(handle);
  delete handle;
  return status;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const std::lock_guard lock(emulator_mutex());
  if (handle == nullptr) return cudaDeviceSynchronize();
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    spoil(*stream->capture);
    return set_error(cudaErrorStreamCaptureUnsupported);
  }
  if (const cudaError_t status = refuse_during_capture(); status != cudaSuccess) return status;
  ++counts().waits;
  throw_kept_error();
  finish(*stream, stream->added);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  if (const cudaError_t status = refuse_during_capture(); status != cudaSuccess) return status;
  if (stream->finished == stream->added) return cudaSuccess;
  if (++stream->queries % queries_until_finished == 0) finish(*stream, stream->added);
  return set_error(cudaErrorNotReady);
}

cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(emulator_mutex());
  if (const cudaError_t status = refuse_during_capture(); status != cudaSuccess) return status;
  ++counts().waits;
  throw_kept_error();
  for (auto& [handle, stream] : std::map(streams().all))
    if (stream->device == current_device()) finish(*stream, stream->added);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  add_work(stream, {[=] { function(argument); }});
  return cudaSuccess;
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const std::lock_guard lock(emulator_mutex());
  *event = new CUevent_st;
  (*event)->state->timed = (flags & cudaEventDisableTiming) == 0;
  streams().events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(emulator_mutex());
  if (streams().events.erase(event) == 0) return set_error(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (state_of(event) == nullptr || stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  // A new state: whoever waits for an earlier recording keeps waiting for that one.
  auto next = std::make_shared<EventState>();
  next->timed = event->state->timed;
  next->stream = stream;
  if (stream->capture != nullptr) {
    next->capture = stream->capture;
    next->nodes = stream->last;
  } else {
    add_work(handle, {[next] { next->seconds = now(); }});
    next->until = stream->added;
  }
  event->state = next;
  return cudaSuccess;
}

// Why the host cannot wait for the event or ask for its state; cudaSuccess if it can.
static cudaError_t refuse_for_host(const EventState* event) {
  if (event == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  if (event->capture == nullptr) return refuse_during_capture();
  spoil(*event->capture);
  return set_error(cudaErrorCapturedEvent);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<EventState> at = state_of(event);
  if (const cudaError_t status = refuse_for_host(at.get()); status != cudaSuccess) return status;
  throw_kept_error();
  if (at->stream == nullptr || at->stream->finished >= at->until) return cudaSuccess;
  ++counts().event_waits;
  finish(*at->stream, at->until);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<EventState> at = state_of(event);
  if (const cudaError_t status = refuse_for_host(at.get()); status != cudaSuccess) return status;
  if (at->stream == nullptr || at->stream->finished >= at->until) return cudaSuccess;
  if (++at->queries % queries_until_finished == 0) finish(*at->stream, at->until);
  return set_error(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<EventState> a = state_of(from), b = state_of(to);
  if (a == nullptr || b == nullptr || !a->timed || !b->timed || a->stream == nullptr || b->stream == nullptr)
    return set_error(cudaErrorInvalidResourceHandle);
  if (a->stream->finished < a->until || b->stream->finished < b->until) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(1e3 * (b->seconds - a->seconds));
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(emulator_mutex());
  const std::shared_ptr<EventState> at = state_of(event);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (at == nullptr || stream == nullptr) return set_error(cudaErrorInvalidResourceHandle);
  if (at->capture != nullptr) {
    if (stream->capture == nullptr) {  // the stream joins the capture, if that still goes on
      if (at->stream->capture != at->capture) return set_error(cudaErrorInvalidValue);
      stream->capture = at->capture;
      stream->last.clear();
    } else if (stream->capture != at->capture) {
      spoil(*stream->capture);
      return set_error(cudaErrorStreamCaptureMerge);
    }
    stream->last.insert(stream->last.end(), at->nodes.begin(), at->nodes.end());
    return cudaSuccess;
  }
  if (at->stream == nullptr) return cudaSuccess;
  if (stream->capture != nullptr) {  // a graph cannot wait for what is outside of it
    spoil(*stream->capture);
    return set_error(cudaErrorStreamCaptureIsolation);
  }
  const int device = current_device();
  cudaSetDevice(stream->device);
  add_work(handle, {[at] { finish(*at->stream, at->until); }});
  cudaSetDevice(device);
  return cudaSuccess;
}

namespace emulator {

// For graphs (graph.cpp).
std::vector<std::shared_ptr<Stream>> streams_in(const Capture& capture) {
  std::vector<std::shared_ptr<Stream>> found;
  for (const auto& [handle, stream] : streams().all)
    if (stream->capture.get() == &capture) found.push_back(stream);
  return found;
}

}  // namespace emulator
