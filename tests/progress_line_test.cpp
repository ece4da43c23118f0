// The progress line on a terminal and on a pipe.
#include <doctest/doctest.h>

#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "program/progress_line.h"
#include "train/run_header.h"

namespace mblm {
namespace {

// Returns the text that arrives at the far end after `use` wrote to the near one.
std::string arrived(int near, int far, const std::function<void(ProgressLine&)>& use) {
  {
    ProgressLine line(near);
    use(line);
  }
  close(near);
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(far, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  close(far);
  return text;
}

std::string on_pipe(const std::function<void(ProgressLine&)>& use) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  return arrived(ends[1], ends[0], use);
}

std::string on_terminal(unsigned short columns, const std::function<void(ProgressLine&)>& use) {
  int near = -1, far = -1;
  winsize size{};
  size.ws_row = 24;
  size.ws_col = columns;
  setenv("TERM", "xterm", 1);
  REQUIRE(openpty(&far, &near, nullptr, nullptr, &size) == 0);
  return arrived(near, far, use);
}

void two_lines_and_a_note(ProgressLine& line) {
  line.show("one");
  line.note("saved");
  line.show("two");
}

}  // namespace

TEST_CASE("the lines at the start of a run fit the terminal") {
  const std::vector<std::string> lines{"model: 1.00 M parameters, transformer 2 x 128: 0.4 M", "  test: none", "folder: runs/a_very_long_name_without_spaces"};
  CHECK(fitted_lines(lines, std::string::npos) == lines);
  CHECK(fitted_lines(lines, 52) == lines);
  const std::vector<std::string> fitted{"model: 1.00 M parameters,", "    transformer 2 x 128: 0.4 M", "  test: none", "folder:",
                                        "    runs/a_very_long_name_without_spaces"};
  CHECK(fitted_lines(lines, 40) == fitted);
  for (const std::string& line : fitted_lines({"  train: " + std::string(30, 'x') + " and more words for another line"}, 44)) {
    CHECK(line.size() <= 44);
    CHECK(line.starts_with("  "));
  }
}

TEST_CASE("without a terminal each line is a new line") {
  CHECK(on_pipe(two_lines_and_a_note) == "one\nsaved\ntwo\n");
  CHECK(on_pipe([](ProgressLine& line) { CHECK(line.interval() == 10); }).empty());
}

TEST_CASE("on a terminal the line is redrawn in place, without colours if NO_COLOR is set") {
  setenv("NO_COLOR", "1", 1);
  CHECK(on_terminal(80, two_lines_and_a_note) == "\r\x1b[Kone\r\x1b[Ksaved\r\n\r\x1b[Kone\r\x1b[Ktwo\r\n");
  unsetenv("NO_COLOR");
  CHECK(on_terminal(80, two_lines_and_a_note).find("\x1b[2mtwo\x1b[0m") != std::string::npos);
  CHECK(on_terminal(80, [](ProgressLine& line) {
          line.show("gone");
          line.clear();
        }).ends_with("\r\x1b[K"));
}

TEST_CASE("a line wider than the terminal is cut") {
  setenv("NO_COLOR", "1", 1);
  CHECK(on_terminal(8, [](ProgressLine& line) { line.show("0123456789"); }) == "\r\x1b[K0123456\r\n");
  unsetenv("NO_COLOR");
}

TEST_CASE("a dumb terminal is treated as no terminal") {
  setenv("TERM", "dumb", 1);
  int near = -1, far = -1;
  REQUIRE(openpty(&far, &near, nullptr, nullptr, nullptr) == 0);
  CHECK(arrived(near, far, two_lines_and_a_note) == "one\r\nsaved\r\ntwo\r\n");
}

TEST_CASE("the text of the progress line, and what is dropped on a narrow terminal") {
  TrainingProgress progress;
  progress.step = 120;
  progress.steps = 1100;
  progress.micro_step = 240;
  progress.micro_steps = 2200;
  progress.loss = 1.6123;
  progress.bits_per_byte = 2.3261;
  progress.learning_rate = 9.84e-4;
  progress.bytes_per_second = 61234;
  progress.seconds_left = 185;
  constexpr std::size_t unlimited = 1000;
  CHECK(progress_text(progress, unlimited) == "step 120/1100  10 %  loss 1.612  2.326 bits/byte  lr 9.8e-04  61.2 kB/s  3:05 left");
  progress.smoothed_loss = 1.7014;
  progress.gradient_norm = 0.7123;
  const std::string whole = "step 120/1100  10 %  loss 1.612  smoothed 1.701  2.326 bits/byte  lr 9.8e-04  norm 0.71  61.2 kB/s  3:05 left";
  CHECK(progress_text(progress, unlimited) == whole);
  CHECK(progress_text(progress, whole.size()) == whole);
  CHECK(progress_text(progress, 99) == "step 120/1100  10 %  loss 1.612  smoothed 1.701  2.326 bits/byte  lr 9.8e-04  61.2 kB/s  3:05 left");
  CHECK(progress_text(progress, 79) == "step 120/1100  10 %  loss 1.612  smoothed 1.701  2.326 bits/byte  3:05 left");
  CHECK(progress_text(progress, 59) == "step 120/1100  10 %  loss 1.612  smoothed 1.701  3:05 left");
  CHECK(progress_text(progress, 45) == "step 120/1100  smoothed 1.701  3:05 left");
  CHECK(progress_text(progress, 30) == "smoothed 1.701  3:05 left");
  CHECK(progress_text(progress, 12) == "3:05 left");
  CHECK(progress_text(progress, 0) == "3:05 left");
}

TEST_CASE("the width of the line is that of the terminal, less one") {
  CHECK(on_terminal(60, [](ProgressLine& line) { CHECK(line.width() == 59); }).empty());
  CHECK(on_terminal(100, [](ProgressLine& line) { CHECK(line.width() == 99); }).empty());
  CHECK(on_pipe([](ProgressLine& line) { CHECK(line.width() > 10000); }).empty());
}

TEST_CASE("sizes and durations") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(999.9) == "1.0 kB");
  CHECK(format_bytes(123456) == "123 kB");
  CHECK(format_bytes(1.44e6) == "1.4 MB");
  CHECK(format_bytes(3e16) == "30000 TB");
  CHECK(format_duration(0.4) == "0:00");
  CHECK(format_duration(59.6) == "1:00");
  CHECK(format_duration(7385) == "2:03:05");
  CHECK(format_duration(-1) == "?");
}

}  // namespace mblm
