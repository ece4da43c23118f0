#include "tests/thread_workers.h"

#include <algorithm>
#include <barrier>
#include <cstring>
#include <thread>

#include "engine/parallel.h"

namespace mblm::testing {
namespace {

// Data that the workers share between two barriers.
struct Board {
  std::vector<std::string> parts;
  std::barrier<> barrier;
  explicit Board(int size) : parts(static_cast<std::size_t>(size)), barrier(size) {}
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Board& board, int rank) : board_(board), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(board_.parts.size()); }

  std::vector<std::string> gather(const std::string& bytes) override {
    board_.parts[static_cast<std::size_t>(rank_)] = bytes;
    board_.barrier.arrive_and_wait();
    std::vector<std::string> all = board_.parts;
    board_.barrier.arrive_and_wait();
    return all;
  }
  void broadcast(Tensor& x) override {
    const std::span<std::byte> bytes = x.host_bytes();
    const std::vector<std::string> all = gather(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    std::copy(all[0].begin(), all[0].end(), reinterpret_cast<char*>(bytes.data()));
  }
  void sum(Tensor& x) override {
    const std::span<float> values(x.host_data<float>(), static_cast<std::size_t>(x.numel()));
    const std::vector<std::string> all = gather(std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes()));
    for (std::size_t r = 0; r < all.size(); ++r) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        float value;
        std::memcpy(&value, all[r].data() + i * sizeof value, sizeof value);
        values[i] = r == 0 ? value : values[i] + value;
      }
    }
  }

 private:
  Board& board_;
  const int rank_;
};

}  // namespace

std::vector<std::string> run_workers(int size, const std::function<void(Communicator&)>& work) {
  Board board(size);
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      set_thread_count(1);
      ThreadCommunicator communicator(board, rank);
      try {
        work(communicator);
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace mblm::testing
