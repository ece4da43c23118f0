// The table of commands: the one place where a command is added. Parsing, help, completion and the man page read it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "program/command_line.h"

namespace mblm {

struct CommandEntry {
  std::string name, summary;
  // Declares the command's arguments and options, bound to `command`, which it sets to the command's defaults.
  std::function<void(CLI::App& app, Command& command)> declare;
};

const std::vector<CommandEntry>& command_table();

// The whole command line, built from the table. Refers to itself: neither copied nor moved.
class CommandParser {
 public:
  CommandParser();
  CommandParser(const CommandParser&) = delete;
  CommandParser& operator=(const CommandParser&) = delete;

  CLI::App& app() { return app_; }
  const CLI::App& app() const { return app_; }
  // The subcommands in the order of the table.
  std::vector<const CLI::App*> commands() const;
  // The command that was parsed.
  const Command& parsed() const;

 private:
  CLI::App app_;
  std::vector<Command> commands_;  // values of the table's commands
};

}  // namespace mblm
