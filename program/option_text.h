// What the declarations of a command's options say, for help, completion and the man page.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace mblm {

// `-o, --output F`, or a positional argument such as `MODEL` or `FIELD=VALUE ...`.
std::string option_name(const CLI::Option& option);
// The description, with the default if it is to be shown.
std::string option_description(const CLI::Option& option);
// `[OPTIONS] MODEL [FIELD=VALUE ...]`
std::string usage_arguments(const CLI::App& command);

bool is_positional(const CLI::Option& option);
bool takes_value(const CLI::Option& option);
// The values that an option with a fixed set of values takes; empty for others.
std::vector<std::string> values_of(const CLI::Option& option);

// The paragraphs of a command's footer: text to wrap, or lines that start with two spaces, which are command lines.
struct FooterPart {
  bool is_example = false;
  std::string text;
};
std::vector<FooterPart> footer_parts(const std::string& footer);

}  // namespace mblm
