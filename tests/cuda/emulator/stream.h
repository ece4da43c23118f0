// Inside of the emulator: streams, events and graphs.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/memory.h"

namespace emulator {

// One operation of a stream, and what it adds to the counts.
struct Work {
  std::function<void()> run;
  std::uint64_t Counts::*kind = nullptr;
  std::uint64_t Counts::*size = nullptr;
  std::size_t bytes = 0;
};

struct Stream;
struct Capture;

}  // namespace emulator

struct CUgraph_st {
  struct Node {
    emulator::Work work;
    std::vector<std::size_t> after;  // nodes that must run before
  };
  std::vector<Node> nodes;
  std::vector<std::size_t> ends;  // the last nodes of the stream that was captured
};

namespace emulator {

// A capture may spread from its first stream to others, by events.
struct Capture {
  CUgraph_st graph;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  Stream* origin = nullptr;
  bool valid = true;
};

struct Stream {
  int device = 0;
  bool is_oldest = false;  // of its device
  std::deque<Work> work;   // waiting
  std::uint64_t added = 0, finished = 0;
  std::shared_ptr<Capture> capture;
  std::uint64_t queries = 0;
  std::vector<std::size_t> last;  // while capturing: the nodes that the next one comes after
};

struct EventState {
  bool timed = true;
  std::shared_ptr<Stream> stream;  // null before the first recording
  std::uint64_t until = 0;         // complete when the stream has finished that much
  double seconds = 0;
  std::uint64_t queries = 0;
  std::shared_ptr<Capture> capture;  // recorded in a capture, after these nodes
  std::vector<std::size_t> nodes;
};

// Runs the stream's work up to a point.
void finish(Stream& stream, std::uint64_t until);
// Runs all work of all streams. An error of a kernel is kept for the next call that can throw.
cudaError_t finish_all_quietly();
void keep_error();  // the exception being handled
void throw_kept_error();

// Adds work to a stream or to the graph that it captures.
void add_work(cudaStream_t stream, Work work);
std::shared_ptr<Stream> stream_of(cudaStream_t handle);  // null for an unknown handle
void count(const Work& work);

// cudaSuccess, unless the call is illegal because of a capture, which it then spoils.
cudaError_t refuse_during_capture();
bool is_capturing(cudaStream_t stream);
void spoil(Capture& capture);

cudaError_t set_error(cudaError_t error);  // for cudaGetLastError; returns it

}  // namespace emulator
