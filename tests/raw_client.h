// A client that writes and reads bytes of a connection as it likes.
#pragma once

#include <string>

namespace mblm::testing {

class RawClient {
 public:
  explicit RawClient(int port);  // on 127.0.0.1
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // Returns false if the connection is closed.
  bool send(const std::string& bytes);
  // Reads until `end` has come, the connection is closed or `seconds` have passed. Returns all that came since the last call.
  std::string read_until(const std::string& end, double seconds = 20);
  // Reads until the connection is closed. `closed` says whether it was within that time.
  std::string read_all(double seconds = 20);
  bool closed() const { return closed_; }
  void close();

 private:
  int socket_;
  bool closed_ = false;
};

// A POST of a body.
std::string post_text(const std::string& path, const std::string& body, const std::string& headers = {});

}  // namespace mblm::testing
