#include "program/completion.h"

#include <algorithm>

#include "engine/error.h"
#include "mblm/config/field_paths.h"
#include "mblm/version.h"
#include "program/option_text.h"

namespace mblm {
namespace {

std::string names_of(const CLI::Option& option) {
  std::string text;
  for (const std::string& name : option.get_snames()) text += (text.empty() ? "-" : " -") + name;
  for (const std::string& name : option.get_lnames()) text += (text.empty() ? "--" : " --") + name;
  return text;
}

std::string in_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The branch of one command: its options, and the values of the option before the cursor.
std::string completion_of(const CLI::App& command, const std::vector<std::string>& commands) {
  std::vector<std::string> options;
  std::string values;
  bool has_fields = false;
  for (const CLI::Option* option : command.get_options()) {
    if (is_positional(*option)) {
      has_fields = has_fields || option->get_name() == "FIELD=VALUE";
      continue;
    }
    options.push_back(names_of(*option));
    if (!takes_value(*option)) continue;
    std::string patterns = names_of(*option);
    std::replace(patterns.begin(), patterns.end(), ' ', '|');
    values += concat_text("        ", patterns, ") takes_value=1 values='", in_words(values_of(*option)), "' ;;\n");
  }
  std::string text = concat_text("    ", command.get_name(), ")\n      options='", in_words(options), "'\n");
  if (has_fields) text += "      fields=1\n";
  if (command.get_name() == "help") text += concat_text("      words='", in_words(commands), "'\n");
  if (!values.empty()) text += concat_text("      case $previous in\n", values, "      esac\n");
  return text + "      ;;\n";
}

// Text for roff: no character of it is a command.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') out += "\\e";
    else if (c == '-') out += "\\-";
    else out += c;
  }
  return out.starts_with('.') || out.starts_with('\'') ? "\\&" + out : out;
}

void add_options(std::string& out, const CLI::App& app) {
  for (const CLI::Option* option : app.get_options())
    out += concat_text(".TP\n.B ", escaped(option_name(*option)), "\n", escaped(option_description(*option)), "\n");
}

}  // namespace

std::string bash_completion(const CommandParser& parser) {
  std::vector<std::string> commands, fields;
  for (const CLI::App* command : parser.commands()) commands.push_back(command->get_name());
  for (const std::string& path : field_paths()) fields.push_back(path + "=");
  std::string text = concat_text(
      "# bash completion for mblm\n"
      "_mblm() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local options= words= values= takes_value= fields=\n"
      "  COMPREPLY=()\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W '", in_words(commands), " --help --version' -- \"$current\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${COMP_WORDS[1]} in\n");
  for (const CLI::App* command : parser.commands()) text += completion_of(*command, commands);
  return text + concat_text(
      "  esac\n"
      "  if [[ $takes_value ]]; then words=$values\n"
      "  elif [[ $current == -* ]]; then words=$options\n"
      "  elif [[ $fields && $current != */* ]] && ((COMP_CWORD > 2)); then\n"
      "    words='", in_words(fields), "'\n"
      "    compopt -o nospace 2>/dev/null\n"
      "  fi\n"
      "  # Without words bash completes file names.\n"
      "  if [[ $words ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); fi\n"
      "}\n"
      "complete -o bashdefault -o default -F _mblm mblm\n");
}

std::string man_page(const CommandParser& parser) {
  std::string out = concat_text(".TH MBLM 1 \"\" \"mblm ", MBLM_VERSION, "\" \"User Commands\"\n.SH NAME\nmblm \\- ", escaped(parser.app().get_description()),
                                "\n.SH SYNOPSIS\n");
  for (const CLI::App* command : parser.commands()) out += concat_text(".B mblm ", command->get_name(), "\n", escaped(usage_arguments(*command)), "\n.br\n");
  out += ".SH OPTIONS\n";
  add_options(out, parser.app());
  out += ".SH COMMANDS\n";
  for (const CLI::App* command : parser.commands()) {
    out += concat_text(".SS mblm ", command->get_name(), "\n", escaped(command->get_description()), ".\n");
    add_options(out, *command);
    for (const FooterPart& part : footer_parts(command->get_footer()))
      out += concat_text(part.is_example ? ".PP\n.RS 4\n.nf\n" : ".PP\n", escaped(part.text), part.is_example ? "\n.fi\n.RE\n" : "\n");
  }
  out +=
      ".SH EXIT STATUS\n"
      "0: done. 1: an error, reported on standard error. 2: the command line is wrong. 128 + n after signal n: the running step was\n"
      "finished and the full state saved.\n"
      ".SH ENVIRONMENT\n"
      ".TP\n.B JOB_ID\nlast part of the name of a run's folder\n"
      ".TP\n.B MBLM_LOG\nwith the value debug: more messages on standard error\n"
      ".TP\n.B NO_COLOR\nno colours on a terminal\n";
  return out;
}

}  // namespace mblm
