// The workers of a run as the training sees them: alone or several, and what happens when one of them fails.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/error.h"
#include "engine/tensor.h"
#include "train/communicator.h"

namespace mblm {

// What all workers throw when one has failed: the same message on each of them.
class WorkerError : public Error { using Error::Error; };

// A handle. Without a communicator one worker is all there is: then nothing is sent, and errors stay as they are.
class Workers {
 public:
  explicit Workers(Communicator* communicator = nullptr) : communicator_(communicator) {}

  int rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
  int size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }
  bool is_alone() const { return size() == 1; }
  bool is_rank0() const { return rank() == 0; }  // the worker that writes

  // What each one gives, in order of rank. Throws WorkerError when one has failed (together).
  std::vector<std::string> exchange(const std::string& bytes = {}) const;
  // The lists of all.
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
  // Whether it is true on one of them.
  bool any(bool value) const;

  // The tensor operations of the workers; null for one alone.
  Collective* collective() const { return is_alone() ? nullptr : communicator_; }
  // The first worker's elements, to all.
  void broadcast(const Tensor& tensor) const;

  // Does `work`, in which all exchange alike, up to its end. When it throws on one worker, the others meet that in their next
  // exchange, or here: all throw the same WorkerError. A worker alone throws what `work` throws.
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
  // Does `write` on rank 0. Nobody returns before it is done.
  template <class Write>
  void on_rank0(const Write& write) const {
    if (is_rank0()) write();
    exchange();
  }
  // For a handler of such an error: tells the others of it, unless they know, and throws the WorkerError; alone, it throws the
  // error again.
  [[noreturn]] void fail(const std::exception& error) const;

 private:
  Communicator* communicator_;
};

}  // namespace mblm
