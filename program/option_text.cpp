#include "program/option_text.h"

#include <sstream>

namespace mblm {

namespace {

// CLI11 appends the descriptions of checks after a colon.
std::string type_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.substr(0, type.find(':'));
}

}  // namespace

bool is_positional(const CLI::Option& option) { return option.get_lnames().empty() && option.get_snames().empty(); }

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string option_name(const CLI::Option& option) {
  if (is_positional(option)) return option.get_name() + (option.get_items_expected_max() > 1 ? " ..." : "");
  std::string text;
  for (const std::string& name : option.get_snames()) text += (text.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) text += (text.empty() ? "--" : ", --") + name;
  return takes_value(option) ? text + " " + type_of(option) : text;
}

std::string option_description(const CLI::Option& option) {
  std::string text = option.get_description();
  for (char& c : text)
    if (c == '\n') c = ' ';
  return option.get_default_str().empty() ? text : text + " [" + option.get_default_str() + "]";
}

std::string usage_arguments(const CLI::App& command) {
  std::string text = "[OPTIONS]";
  for (const CLI::Option* option : command.get_options()) {
    if (!is_positional(*option)) continue;
    const std::string name = option_name(*option);
    text += option->get_required() ? " " + name : " [" + name + "]";
  }
  return text;
}

std::vector<std::string> values_of(const CLI::Option& option) {
  std::string text;
  try {
    text = const_cast<CLI::Option&>(option).get_validator(0)->get_description();
  } catch (const CLI::OptionNotFound&) {
  }
  std::vector<std::string> values;
  if (text.find('|') == std::string::npos) return values;  // the description of another check
  std::istringstream parts(text);
  for (std::string value; std::getline(parts, value, '|');) values.push_back(value);
  return values;
}

std::vector<FooterPart> footer_parts(const std::string& footer) {
  std::vector<FooterPart> parts;
  bool continues = false;  // the last part is a paragraph that goes on
  std::istringstream lines(footer);
  for (std::string line; std::getline(lines, line);) {
    const bool is_example = line.starts_with("  ");
    if (line.empty()) {
      continues = false;
    } else if (is_example) {
      parts.push_back({true, line.substr(2)});
      continues = false;
    } else if (continues) {
      parts.back().text += " " + line;
    } else {
      parts.push_back({false, line});
      continues = true;
    }
  }
  return parts;
}

}  // namespace mblm
