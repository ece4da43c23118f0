// Connections with limits: each has a thread, and may neither take long to send a request nor to take its answer.
#pragma once

#include <httplib.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace mblm {

// A client's socket, for the library. All waiting ends when `closing` becomes true and no request has begun.
class ClientStream : public httplib::Stream {
 public:
  using Clock = std::chrono::steady_clock;

  // `patience`: to receive a head or a body completely, to wait for the next request, and for a client to take any data.
  ClientStream(socket_t socket, std::chrono::milliseconds patience, const std::atomic<bool>& closing);
  ~ClientStream() override;  // closes the socket
  ClientStream(const ClientStream&) = delete;
  ClientStream& operator=(const ClientStream&) = delete;

  // Waits for the first byte of a request. Returns false if none comes.
  bool await_request();
  // Limits the bytes to read, and the time until they have been read.
  void expect(std::size_t bytes);
  // The time at which the client must have taken the answer.
  void answer_until(Clock::time_point end) { answer_end_ = end; }
  Clock::time_point request_start() const { return request_start_; }

  // Whether the client has closed the connection, or at least its sending side.
  bool client_left() const;

  // The connection ends after this request, because its rest has not been read.
  void close_after_answer() { closes_ = true; }
  bool closes() const { return closes_; }
  // Whether time or bytes ran out while reading.
  bool timed_out() const { return timed_out_; }
  bool exceeded() const { return exceeded_; }

  bool is_readable() const override { return true; }
  bool is_writable() const override { return !broken_; }
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return 0; }  // the library only compares it with the limit of select(), which is not used here

 private:
  bool wait(short events, Clock::time_point end, bool ends_when_closing) const;
  bool fill(Clock::time_point end, bool ends_when_closing);

  const socket_t socket_;
  const std::chrono::milliseconds patience_;
  const std::atomic<bool>& closing_;
  std::array<char, 4096> buffer_{};
  std::size_t begin_ = 0, end_ = 0;  // received bytes that have not been read
  std::size_t left_ = 0;             // bytes that may be read
  Clock::time_point read_end_{}, answer_end_{}, request_start_{};
  bool closes_ = false, timed_out_ = false, exceeded_ = false, broken_ = false;
};

// The connection that this thread serves.
ClientStream& current_client();

// Sets it.
class CurrentClient {
 public:
  explicit CurrentClient(ClientStream& client);
  ~CurrentClient();
  CurrentClient(const CurrentClient&) = delete;
  CurrentClient& operator=(const CurrentClient&) = delete;
};

// A thread per connection, up to a limit. Beyond it a task runs on the calling thread with refusing() true.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(std::size_t most) : most_(most) {}
  void enqueue(std::function<void()> task) override;
  void shutdown() override;  // waits for all tasks

  static bool refusing();  // on this thread

 private:
  void work();

  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool ends_ = false;
};

}  // namespace mblm
