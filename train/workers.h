// Communication and error handling for one or several workers.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/error.h"
#include "engine/tensor.h"
#include "train/communicator.h"

namespace mblm {

// Thrown on all workers, with the same message, if one of them fails.
class WorkerError : public Error { using Error::Error; };

// A handle to the workers. Without a communicator there is one worker: nothing is sent, and errors are thrown unchanged.
class Workers {
 public:
  // `collective` is for the tensors of a GPU; null: the communicator.
  explicit Workers(Communicator* communicator = nullptr, Collective* collective = nullptr)
      : communicator_(communicator), collective_(collective != nullptr ? collective : communicator) {}

  int rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
  int size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }
  bool is_alone() const { return size() == 1; }
  bool is_rank0() const { return rank() == 0; }  // the worker that writes

  // Returns the bytes of each worker, in order of rank. Throws WorkerError if a worker has failed (see `together`).
  std::vector<std::string> exchange(const std::string& bytes = {}) const;
  // Returns the list of each worker.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  std::vector<std::vector<T>> exchange_lists(const std::vector<T>& list) const {
    std::vector<std::vector<T>> lists;
    for (const std::string& bytes : exchange(std::string(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(T)))) {
      std::vector<T>& other = lists.emplace_back(bytes.size() / sizeof(T));
      std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(other.data()));
    }
    return lists;
  }
  template <class T>
  std::vector<T> exchange_values(const T& value) const {
    std::vector<T> values;
    for (const std::vector<T>& list : exchange_lists(std::vector<T>{value})) values.push_back(list.front());
    return values;
  }
  // Whether `value` is true on at least one worker.
  bool any(bool value) const;

  // Collective operations on tensors; null for a single worker.
  Collective* collective() const { return is_alone() ? nullptr : collective_; }
  // Copies the elements of rank 0 to all workers.
  void broadcast(const Tensor& tensor) const;

  // Runs `work`, in which all workers must make the same exchanges, and waits for all workers. If it throws on one worker, the others
  // detect this in their next exchange or at the end, and all throw the same WorkerError. With a single worker the error is rethrown.
  template <class Work>
  auto together(const Work& work) const {
    try {
      if constexpr (std::is_void_v<decltype(work())>) {
        work();
        exchange();
      } else {
        auto result = work();
        exchange();
        return result;
      }
    } catch (const std::exception& error) {
      fail(error);
    }
  }
  // Runs `write` on rank 0. All workers wait until it is done.
  template <class Write>
  void on_rank0(const Write& write) const {
    if (is_rank0()) write();
    exchange();
  }
  // Call in an exception handler. Reports the error to the other workers, unless it is a WorkerError, and throws a WorkerError. With a
  // single worker rethrows the error.
  [[noreturn]] void fail(const std::exception& error) const;

 private:
  Communicator* communicator_;
  Collective* collective_;
};

// The collective for tensors on `device`. All workers open it together, each for its own device, which must be of the same kind. It is
// that of the device's backend, or one that stages tensors through host memory; `on_note` then receives the reason, if there is one.
// Returns null for a single worker and on the CPU: Workers then uses the communicator.
std::unique_ptr<Collective> open_collective(Communicator* communicator, Device device, const std::function<void(const std::string&)>& on_note);

}  // namespace mblm
