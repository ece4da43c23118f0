#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <csignal>

int main(int argc, char** argv) {
  // nohup ignores it, for this program and for those that it starts. Tests send it.
  std::signal(SIGHUP, SIG_DFL);
  return doctest::Context(argc, argv).run();
}
