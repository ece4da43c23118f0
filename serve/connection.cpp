#include "serve/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace mblm {
namespace {

constexpr std::chrono::milliseconds glance{100};  // time between looks at what else may end a wait
constexpr int send_buffer = 1 << 16;              // bytes that the system holds for a client that does not read
constexpr std::size_t longest_rest = std::size_t{1} << 24;  // bytes of a refused request to read, so that its sender gets the answer
constexpr std::chrono::milliseconds rest_patience{1000};

thread_local ClientStream* client = nullptr;
thread_local bool refuses = false;

}  // namespace

ClientStream::ClientStream(socket_t socket, std::chrono::milliseconds patience, const std::atomic<bool>& closing)
    : socket_(socket), patience_(patience), closing_(closing) {
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
}

// A socket that is closed with unread data resets the connection, and the client may lose the answer: so the rest is read for a while.
ClientStream::~ClientStream() {
  if (closes_ && !broken_) {
    ::shutdown(socket_, SHUT_WR);
    const Clock::time_point end = Clock::now() + rest_patience;
    std::size_t rest = 0;
    while (rest < longest_rest && wait(POLLIN, end, true)) {
      const ssize_t count = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (count <= 0) break;
      rest += static_cast<std::size_t>(count);
    }
  }
  ::close(socket_);
}

bool ClientStream::wait(short events, Clock::time_point end, bool ends_when_closing) const {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    pollfd one{socket_, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::min(left, glance).count()));
    if (ready > 0) return true;
    if ((ready < 0 && errno != EINTR) || (ends_when_closing && closing_)) return false;
  }
}

// Receives what there is, at least one byte.
bool ClientStream::fill(Clock::time_point end, bool ends_when_closing) {
  while (wait(POLLIN, end, ends_when_closing)) {
    const ssize_t count = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count > 0) {
      begin_ = 0;
      end_ = static_cast<std::size_t>(count);
      return true;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) return false;
  }
  return false;
}

bool ClientStream::await_request() {
  if (begin_ == end_ && !fill(Clock::now() + patience_, true)) return false;
  request_start_ = Clock::now();
  answer_end_ = request_start_ + patience_;
  return true;
}

void ClientStream::expect(std::size_t bytes) {
  left_ = bytes;
  read_end_ = Clock::now() + patience_;
}

bool ClientStream::client_left() const {
  pollfd one{socket_, POLLRDHUP, 0};
  return ::poll(&one, 1, 0) > 0 && (one.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

ssize_t ClientStream::read(char* to, size_t size) {
  exceeded_ = left_ == 0;
  if (exceeded_) return -1;
  if (begin_ == end_ && !fill(read_end_, false)) {
    timed_out_ = Clock::now() >= read_end_;
    return timed_out_ ? -1 : 0;
  }
  const std::size_t count = std::min({size, end_ - begin_, left_});
  std::memcpy(to, buffer_.data() + begin_, count);
  begin_ += count;
  left_ -= count;
  return static_cast<ssize_t>(count);
}

ssize_t ClientStream::write(const char* from, size_t size) {
  const Clock::time_point end = std::min(Clock::now() + patience_, answer_end_);
  while (!broken_ && wait(POLLOUT, end, false)) {
    const ssize_t count = ::send(socket_, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) return count;
    if (errno != EAGAIN && errno != EINTR) break;
  }
  broken_ = true;
  return -1;
}

ClientStream& current_client() { return *client; }

CurrentClient::CurrentClient(ClientStream& current) { client = &current; }
CurrentClient::~CurrentClient() { client = nullptr; }

bool ConnectionThreads::refusing() { return refuses; }

void ConnectionThreads::enqueue(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (idle_ > tasks_.size()) {
      tasks_.push_back(std::move(task));
      changed_.notify_one();
      return;
    }
    if (threads_.size() < most_) {
      try {
        threads_.emplace_back([this] { work(); });
        tasks_.push_back(std::move(task));
        return;
      } catch (const std::system_error&) {  // no more threads
      }
    }
  }
  refuses = true;
  task();
  refuses = false;
}

void ConnectionThreads::shutdown() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ConnectionThreads::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [this] { return ends_ || !tasks_.empty(); });
    --idle_;
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace mblm
