// The help texts.
#pragma once

#include <cstddef>
#include <string>

#include "program/command_table.h"

namespace mblm {

// The width of the terminal on standard output; 80 if it is none.
std::size_t help_width();

// Help on all commands, in lines of at most `width` characters (longer words excepted).
std::string help_text(const CommandParser& parser, std::size_t width);
// Help on one command.
std::string help_text(const CLI::App& command, std::size_t width);

// Version and build options.
std::string version_text();

}  // namespace mblm
