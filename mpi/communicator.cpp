// The MPI module: communication of workers. The library loads it under a launcher (train/communicator.h). Only this file uses MPI.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <iterator>
#include <numeric>

#include "engine/error.h"
#include "train/communicator.h"

namespace mblm {
namespace {

// Number of values that a worker sums at a time, 1 MiB. Two buffers of W chunks are small compared with a model, and counts are far
// below 2^31.
constexpr std::size_t chunk = std::size_t{1} << 18;

class MpiCommunicator final : public Communicator {
 public:
  // MPI errors abort all workers with MPI's message (the default): after an error communication is no longer possible.
  MpiCommunicator() {
    int is_initialized = 0, is_finalized = 0, provided = 0;
    MPI_Initialized(&is_initialized);
    MPI_Finalized(&is_finalized);
    require(is_finalized == 0, "mpi: MPI is already finalized; a process can open one communicator");
    owns_mpi_ = is_initialized == 0;
    if (owns_mpi_) MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    else MPI_Query_thread(&provided);
    if (provided < MPI_THREAD_FUNNELED) {
      if (owns_mpi_) MPI_Finalize();
      throw Error(owns_mpi_ ? "mpi: expected an MPI library for programs with several threads (MPI_THREAD_FUNNELED), it supports one thread only"
                            : "mpi: expected MPI to be initialized with MPI_Init_thread and MPI_THREAD_FUNNELED, it was initialized for one thread");
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &workers_);
    MPI_Comm_rank(workers_, &rank_);
    MPI_Comm_size(workers_, &size_);
    parts_.resize(chunk * static_cast<std::size_t>(size_));
  }
  ~MpiCommunicator() override {
    MPI_Comm_free(&workers_);
    if (owns_mpi_) MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::vector<std::string> gather(const std::string& bytes) override {
    const std::int64_t own = std::ssize(bytes);
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(size_));
    MPI_Allgather(&own, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, workers_);
    const std::int64_t sum = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    require<ValueError>(sum <= INT_MAX, "mpi: expected messages of at most ", INT_MAX, " bytes, got ", sum);
    std::vector<int> counts(sizes.begin(), sizes.end()), starts(counts.size());
    std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), 0);
    std::string all(static_cast<std::size_t>(sum), '\0');
    MPI_Allgatherv(bytes.data(), static_cast<int>(own), MPI_BYTE, all.data(), counts.data(), starts.data(), MPI_BYTE, workers_);
    std::vector<std::string> parts;
    for (std::size_t r = 0; r < counts.size(); ++r) parts.push_back(all.substr(static_cast<std::size_t>(starts[r]), static_cast<std::size_t>(counts[r])));
    return parts;
  }

  void broadcast(Tensor& x) override {
    const std::span<std::byte> bytes = x.host_bytes();
    constexpr std::size_t piece = chunk * sizeof(float);
    for (std::size_t done = 0; done < bytes.size(); done += piece)
      MPI_Bcast(bytes.data() + done, static_cast<int>(std::min(piece, bytes.size() - done)), MPI_BYTE, 0, workers_);
  }

  // Each worker sums one part of the values in order of rank and sends it to the others. This has the traffic of a ring reduction, and
  // the order of the sums does not depend on MPI's reduction algorithm.
  void sum(Tensor& x) override {
    std::span<float> values(x.host_data<float>(), static_cast<std::size_t>(x.numel()));
    const std::size_t workers = static_cast<std::size_t>(size_), whole = chunk * workers;
    for (; values.size() >= whole; values = values.subspan(whole)) sum_parts(values.data(), chunk);
    if (values.empty()) return;
    rest_.assign((values.size() + workers - 1) / workers * workers, 0.0f);
    std::copy(values.begin(), values.end(), rest_.begin());
    sum_parts(rest_.data(), rest_.size() / workers);
    std::copy_n(rest_.begin(), values.size(), values.begin());
  }

 private:
  // Sums W parts of `part` values each.
  void sum_parts(float* values, std::size_t part) {
    const int count = static_cast<int>(part);
    MPI_Alltoall(values, count, MPI_FLOAT, parts_.data(), count, MPI_FLOAT, workers_);  // receives this worker's part from each worker
    float* sum = parts_.data();
    for (std::size_t r = 1; r < static_cast<std::size_t>(size_); ++r) {
      const float* other = sum + r * part;
      for (std::size_t i = 0; i < part; ++i) sum[i] += other[i];
    }
    MPI_Allgather(sum, count, MPI_FLOAT, values, count, MPI_FLOAT, workers_);
  }

  MPI_Comm workers_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  bool owns_mpi_ = false;
  std::vector<float> parts_, rest_;
};

}  // namespace
}  // namespace mblm

extern "C" mblm::Communicator* mblm_open_communicator() { return new mblm::MpiCommunicator; }
