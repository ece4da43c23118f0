#include "tests/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <utility>

#include "engine/error.h"

namespace mblm::testing {

RawClient::RawClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  const int small = 1 << 13;  // bytes that the system takes for this client while it does not read
  setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  require(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "RawClient: cannot connect to port ", port);
}

bool RawClient::send(const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

std::string RawClient::read_until(const std::string& end, double seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point last = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::string all;
  std::array<char, 4096> buffer{};
  while (!closed_ && (end.empty() || all.find(end) == std::string::npos)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(last - Clock::now()).count();
    pollfd one{socket_, POLLIN, 0};
    if (left <= 0 || ::poll(&one, 1, static_cast<int>(left)) <= 0) break;
    const ssize_t count = ::recv(socket_, buffer.data(), buffer.size(), 0);
    closed_ = count <= 0;
    if (!closed_) all.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return all;
}

std::string RawClient::read_all(double seconds) { return read_until({}, seconds); }

void RawClient::close() {
  const int socket = std::exchange(socket_, -1);
  if (socket >= 0) ::close(socket);
}

std::string post_text(const std::string& path, const std::string& body, const std::string& headers) {
  return concat_text("POST ", path, " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ", body.size(), "\r\n", headers, "\r\n", body);
}

}  // namespace mblm::testing
