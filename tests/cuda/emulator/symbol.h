// File names and lines for error messages.
#pragma once

#include <string>

namespace emulator {

// "FILE:LINE" of the code that was running when `pc` was the return address or the address of the fault. With inlined functions all
// lines, the innermost first. The address itself when the program has no line numbers (-g1) or addr2line is missing.
std::string line_of(const void* pc);

std::string short_file(const std::string& path);  // the name without its folders

}  // namespace emulator
