// The program mblm: parses the command line, runs the command and reports an error in one line.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <string_view>

#include "engine/error.h"
#include "program/program.h"

namespace {

// Opens /dev/null for closed standard streams. Otherwise the first files that the program opens, such as a run's tables, would get
// their numbers and receive what is meant for the streams.
bool open_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
    if (::fcntl(stream, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != stream) return false;  // open returns the lowest free number
  return true;
}

int failed(std::string_view message) {
  mblm::write_note(message);
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (!open_standard_streams()) return 1;  // there is no stream for a message
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the file size limit then fails with an error
  try {
    const auto parsed = mblm::parse_command_line(count, arguments);
    if (const int* status = std::get_if<int>(&parsed)) return *status;
    return std::visit([](const auto& command) { return mblm::run(command); }, std::get<mblm::Command>(parsed));
  } catch (const mblm::BrokenPipe&) {
    return 0;
  } catch (const mblm::ConfigError& error) {  // one line per wrong field
    mblm::write_error(error.what());
    return 1;
  } catch (const std::bad_alloc&) {
    return failed("not enough memory");
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}
