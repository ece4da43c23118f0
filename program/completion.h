// Files for the shell and for man, made from the table of commands.
#pragma once

#include <string>

#include "program/command_table.h"

namespace mblm {

// A script that completes commands, options, their values, config fields and file names in bash.
std::string bash_completion(const CommandParser& parser);
// The man page mblm(1), in roff.
std::string man_page(const CommandParser& parser);

}  // namespace mblm
