#include "tests/cuda/emulator/symbol.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace emulator {
namespace {

// The output of a command, by lines.
std::vector<std::string> lines_of(const std::string& command) {
  std::vector<std::string> lines;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return lines;
  char text[4096];
  while (std::fgets(text, sizeof text, pipe) != nullptr) {
    lines.emplace_back(text);
    if (!lines.back().empty() && lines.back().back() == '\n') lines.back().pop_back();
  }
  pclose(pipe);
  return lines;
}

std::string hexadecimal(std::uintptr_t x) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%zx", static_cast<std::size_t>(x));
  return text;
}

}  // namespace

std::string short_file(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string line_of(const void* pc) {
  Dl_info info;
  link_map* map = nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(pc);
  if (dladdr1(pc, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0) return "code address " + hexadecimal(address);
  const std::string file = map != nullptr && map->l_name[0] != '\0' ? map->l_name : "/proc/" + std::to_string(getpid()) + "/exe";
  const std::uintptr_t base = map != nullptr ? map->l_addr : 0;
  std::string text;
  // A return address is behind its call; one byte before it is inside.
  for (const std::string& line : lines_of("addr2line -i -e '" + file + "' " + hexadecimal(address - base - 1) + " 2>/dev/null")) {
    if (line.empty() || line[0] == '?' || line.find("/include/c++/") != std::string::npos) continue;
    if (line.find("cuda/launch.h:") != std::string::npos) break;  // from here on, how the kernel was called
    std::string found = short_file(line);
    if (const auto space = found.find(' '); space != std::string::npos) found.resize(space);  // " (discriminator 3)"
    if (!text.empty()) text += " in ";
    text += found;
  }
  return text.empty() ? "code address " + hexadecimal(address) : text;
}

}  // namespace emulator
