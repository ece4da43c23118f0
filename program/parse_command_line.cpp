// Parses the command line, and names what is wrong with it.
#include <algorithm>

#include "engine/error.h"
#include "mblm/config/field_paths.h"
#include "mblm/config/field_rules.h"
#include "program/command_table.h"
#include "program/completion.h"
#include "program/help.h"
#include "program/option_text.h"
#include "program/program.h"

namespace mblm {
namespace {

using Arguments = std::vector<std::string>;

// Joins the lines of CLI11's message.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

Arguments command_names() {
  Arguments names;
  for (const CommandEntry& entry : command_table()) names.push_back(entry.name);
  return names;
}

std::string unknown_command(const std::string& name) {
  const Arguments names = command_names();
  const bool is_config = name.ends_with(".yaml") || name.ends_with(".yml");
  const std::string meant = is_config ? ", did you mean mblm train " + name + "?" : suggestion(name, names);
  return "unknown command " + name + (meant.empty() ? ", expected " + joined(names, " or ") : meant);
}

const CLI::Option* option_named(const CLI::App& command, const std::string& name) {
  for (const CLI::Option* option : command.get_options())
    if (!is_positional(*option) && option->check_name(name)) return option;
  return nullptr;
}

bool takes_fields(const CLI::App& command) {
  const std::vector<const CLI::Option*> options = command.get_options();
  return std::any_of(options.begin(), options.end(), [](const CLI::Option* option) { return option->get_name() == "FIELD=VALUE"; });
}

// Describes the first word that looks like an option but is none; empty if there is no such word.
std::string unknown_option(const CLI::App& command, const Arguments& words) {
  Arguments names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (auto word = words.begin(); word != words.end() && *word != "--"; ++word) {
    const std::size_t equals = std::min(word->find('='), word->size());
    const std::string name = word->substr(0, equals);
    if (const CLI::Option* option = option_named(command, name); option != nullptr) {
      if (takes_value(*option) && equals == word->size() && word + 1 != words.end()) ++word;  // its value
      continue;
    }
    if (!word->starts_with("--")) continue;
    const std::string field = path_of_field(name.substr(2)), near = suggestion(name, names);
    const bool is_field = field.ends_with("." + name.substr(2)) && takes_fields(command);
    return "unknown option " + name + (is_field ? ", did you mean " + field + "=VALUE?" : near);
  }
  return {};
}

// The message for a wrong command line.
std::string error_text(const CommandParser& parser, const CLI::ParseError& error, const Arguments& words) {
  const auto is_command = [](const std::string& word) { return !word.starts_with('-'); };
  const auto first = std::find_if(words.begin(), words.end(), is_command);
  const Arguments names = command_names();
  if (first == words.end()) {
    const std::string option = unknown_option(parser.app(), words);
    return (option.empty() ? "expected a command: " + joined(names, " or ") : option) + " (see mblm --help)";
  }
  const auto at = std::find(names.begin(), names.end(), *first);
  if (at == names.end()) return unknown_command(*first) + " (see mblm --help)";
  const CLI::App& command = *parser.commands()[static_cast<std::size_t>(at - names.begin())];
  const std::string option = unknown_option(command, Arguments(first + 1, words.end()));
  return (option.empty() ? one_line(error.what()) : option) + " (see mblm " + *first + " --help)";
}

int show_help(const CommandParser& parser, const HelpCommand& help) {
  if (help.bash_completion || help.man_page) {
    write_output(help.man_page ? man_page(parser) : bash_completion(parser));
    return 0;
  }
  const Arguments names = command_names();
  const auto at = std::find(names.begin(), names.end(), help.command);
  if (help.command.empty()) {
    write_output(help_text(parser, help_width()));
  } else if (at != names.end()) {
    write_output(help_text(*parser.commands()[static_cast<std::size_t>(at - names.begin())], help_width()));
  } else {
    write_note(unknown_command(help.command) + " (see mblm --help)");
    return 2;
  }
  return 0;
}

}  // namespace

CommandParser::CommandParser() : app_("Multiscale byte language models: train, evaluate, generate", "mblm"), commands_(command_table().size()) {
  app_.set_version_flag("--version", version_text(), "print version and build options");
  app_.set_help_flag("-h,--help", "print this help");
  app_.require_subcommand(1);
  for (std::size_t i = 0; i < commands_.size(); ++i) {
    const CommandEntry& entry = command_table()[i];
    entry.declare(*app_.add_subcommand(entry.name, entry.summary), commands_[i]);
  }
  app_.footer("`mblm help COMMAND` lists the options of a command. docs/config.md and `mblm config --fields` explain the fields of a config.\n\n"
              "  mblm config --data my_text > config.yaml\n  mblm train config.yaml\n");
}

std::vector<const CLI::App*> CommandParser::commands() const {
  std::vector<const CLI::App*> all;
  for (const CommandEntry& entry : command_table()) all.push_back(const_cast<CLI::App&>(app_).get_subcommand(entry.name));
  return all;
}

const Command& CommandParser::parsed() const {
  const std::vector<const CLI::App*> all = commands();
  const auto used = std::find_if(all.begin(), all.end(), [](const CLI::App* command) { return command->parsed(); });
  require(used != all.end(), "command line: expected a parsed command");
  return commands_[static_cast<std::size_t>(used - all.begin())];
}

int run(const HelpCommand& command) { return show_help(CommandParser(), command); }

std::variant<Command, int> parse_command_line(int count, const char* const* arguments) {
  CommandParser parser;
  try {
    parser.app().parse(count, arguments);
  } catch (const CLI::CallForHelp&) {
    const auto used = parser.app().get_subcommands();
    write_output(used.empty() ? help_text(parser, help_width()) : help_text(*used.front(), help_width()));
    return 0;
  } catch (const CLI::CallForVersion&) {
    write_output(version_text());
    return 0;
  } catch (const CLI::ParseError& wrong) {
    write_note(error_text(parser, wrong, Arguments(arguments + 1, arguments + count)));
    return 2;
  }
  return parser.parsed();
}

}  // namespace mblm
