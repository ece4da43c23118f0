#include "program/help.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "engine/error.h"
#include "mblm/config/field_docs.h"
#include "mblm/version.h"
#include "program/option_text.h"

namespace mblm {
namespace {

constexpr std::size_t narrowest = 40;  // no terminal is treated as narrower

struct Row {
  std::string name, description;
};

void add_paragraph(std::string& out, const std::string& text, std::size_t width) {
  for (const std::string& line : wrapped(text, width)) out += line + "\n";
}

// Names in a column, descriptions beside them; a long name has a line of its own.
void add_rows(std::string& out, const std::string& title, const std::vector<Row>& rows, std::size_t width) {
  if (rows.empty()) return;
  constexpr std::size_t indent = 2, widest = 24;
  std::size_t column = 0;
  for (const Row& row : rows) column = std::max(column, std::min(row.name.size(), widest));
  column = std::min(column + indent + 2, width / 2);
  out += "\n" + title + ":\n";
  for (const Row& row : rows) {
    std::string line = std::string(indent, ' ') + row.name;
    for (const std::string& part : wrapped(row.description, width - column)) {
      if (line.size() + 2 > column && !line.empty()) {
        out += line + "\n";
        line.clear();
      }
      line.resize(column, ' ');
      out += line + part + "\n";
      line.clear();
    }
    if (!line.empty()) out += line + "\n";
  }
}

// A command line, broken with a backslash where it is too long.
void add_example(std::string& out, const std::string& text, std::size_t width) {
  const std::vector<std::string> lines = 2 + text.size() <= width ? std::vector{text} : wrapped(text, width - 8);
  for (std::size_t i = 0; i < lines.size(); ++i) out += concat_text(i == 0 ? "  " : "      ", lines[i], i + 1 < lines.size() ? " \\\n" : "\n");
}

void add_footer(std::string& out, const std::string& footer, std::size_t width) {
  bool after_example = false;
  for (const FooterPart& part : footer_parts(footer)) {
    if (!after_example || !part.is_example) out += "\n";
    if (part.is_example) add_example(out, part.text, width);
    else add_paragraph(out, part.text, width);
    after_example = part.is_example;
  }
}

std::vector<Row> rows_of(const CLI::App& app, bool positional) {
  std::vector<Row> rows;
  for (const CLI::Option* option : app.get_options())
    if (is_positional(*option) == positional) rows.push_back({option_name(*option), option_description(*option)});
  return rows;
}

}  // namespace

std::size_t help_width() {
  winsize size{};
  const bool is_terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_terminal ? std::max<std::size_t>(narrowest, size.ws_col) : 80;
}

std::string help_text(const CommandParser& parser, std::size_t width) {
  std::string out = "Usage: mblm COMMAND [OPTIONS] ...\n\n";
  add_paragraph(out, parser.app().get_description(), width);
  std::vector<Row> commands;
  for (const CLI::App* command : parser.commands()) commands.push_back({command->get_name(), command->get_description()});
  add_rows(out, "Commands", commands, width);
  add_rows(out, "Options", rows_of(parser.app(), false), width);
  add_footer(out, parser.app().get_footer(), width);
  return out;
}

std::string help_text(const CLI::App& command, std::size_t width) {
  std::string out;
  const std::string usage = "Usage: mblm " + command.get_name() + " " + usage_arguments(command);
  const std::vector<std::string> lines = wrapped(usage, width - 4);
  for (std::size_t i = 0; i < lines.size(); ++i) out += (i == 0 ? "" : "    ") + lines[i] + "\n";
  out += "\n";
  add_paragraph(out, command.get_description(), width);
  add_rows(out, "Arguments", rows_of(command, true), width);
  add_rows(out, "Options", rows_of(command, false), width);
  add_footer(out, command.get_footer(), width);
  return out;
}

std::string version_text() {
  return concat_text("mblm ", MBLM_VERSION, "\n", "compiler: ", MBLM_COMPILER, "\n", "processor: ", MBLM_PROCESSOR, "\n", "oneDNN: ", MBLM_ONEDNN_BUILT,
                     "\n", "CUDA: ", MBLM_CUDA_BUILT, "\n", "MPI: ", MBLM_MPI_BUILT, "\n", "cairo (.png of mblm plot): ", MBLM_CAIRO_BUILT, "\n",
                     "cpp-httplib (mblm serve): ", MBLM_SERVE_BUILT, "\n");
}

}  // namespace mblm
