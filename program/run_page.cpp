#include "program/run_page.h"

#include <algorithm>
#include <iomanip>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>

#include "engine/error.h"
#include "engine/io/mapped_file.h"
#include "program/figure.h"

namespace mblm {
namespace {

constexpr const char* style =
    "body{font:15px/1.5 system-ui,'Segoe UI',sans-serif;color:#222;background:#fff;max-width:976px;margin:24px auto;padding:0 12px}"
    "h1{font-size:24px}h2{font-size:20px;margin-top:36px;border-bottom:1px solid #ddd}h3{font-size:16px;margin:20px 0 6px}"
    "svg{max-width:100%;height:auto}table{border-collapse:collapse}td{padding:2px 24px 2px 0;vertical-align:top}td:first-child{color:#666}"
    "pre{background:#f6f6f6;padding:12px;overflow-x:auto;font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".step{color:#666;margin:12px 0 2px}.given{color:#777}.made{background:#e8f1fa}summary{cursor:pointer}";

std::string text_of(const std::filesystem::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

// The text of train.log without the time of each line.
std::vector<std::string> log_lines(const std::filesystem::path& folder) {
  std::vector<std::string> lines;
  std::error_code error;
  if (!std::filesystem::is_regular_file(folder / "train.log", error)) return lines;
  constexpr std::size_t time_length = 27;  // 2024-01-31 12:00:00.123456 and a space
  const std::string text = text_of(folder / "train.log");
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end - at > time_length) lines.push_back(text.substr(at + time_length, end - at - time_length));
    at = end + 1;
  }
  return lines;
}

// Undoes the escapes of printable_text (train/sample_text.h). Ids above 255 stay as they are.
std::string without_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) { return at < text.size() ? std::string_view("0123456789abcdef").find(text[at]) : std::string_view::npos; };
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char kind = text[++i];
    if (kind == 'n') out += '\n';
    else if (kind == 'r') out += '\r';
    else if (kind == 't') out += '\t';
    else if (kind == 'x' && digit(i + 1) < 16 && digit(i + 2) < 16) out += static_cast<char>(digit(i + 1) * 16 + digit(i + 2)), i += 2;
    else if (kind == '{') out += "\\{";
    else out += kind;
  }
  return out;
}

// A sample line: words and quoted texts. The first quoted text is what the model was given.
std::string sample_html(std::string_view line) {
  std::string html = "<pre>";
  bool given = true;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t open = line.find('"', at);
    if (open == std::string_view::npos) break;
    std::size_t close = open + 1;
    while (close < line.size() && line[close] != '"') close += line[close] == '\\' ? 2 : 1;
    close = std::min(close, line.size());
    const std::string_view word = line.substr(at, open - at);
    if (word.find("expected") != std::string_view::npos) html += "\n<span class=\"given\">expected: </span>";
    html += concat_text("<span class=\"", given ? "given" : "made", "\">", xml_text(without_escapes(line.substr(open + 1, close - open - 1))), "</span>");
    given = false;
    at = std::min(line.size(), close + 1);
  }
  return html + "</pre>\n";
}

std::string bits(double value) { return concat_text(std::fixed, std::setprecision(4), value, " bits per byte"); }

std::string results(const RunCurves& run) {
  std::string rows;
  const auto row = [&rows](const char* name, const std::string& value) { rows += concat_text("<tr><td>", name, "</td><td>", xml_text(value), "</td></tr>\n"); };
  if (!run.validation.empty()) {
    const auto best = std::min_element(run.validation.begin(), run.validation.end(), [](const CurvePoint& a, const CurvePoint& b) { return a.y < b.y; });
    row("best validation", bits(best->y));
    row("last validation", bits(run.validation.back().y));
  }
  if (!run.smoothed.empty()) row("last training, smoothed", bits(run.smoothed.back().y));
  if (run.test) row("test", bits(*run.test));
  const double seen = std::max(run.training.empty() ? 0 : run.training.back().x, run.validation.empty() ? 0 : run.validation.back().x);
  row("bytes seen", concat_text(std::fixed, std::setprecision(0), seen));
  row("folder", run.folder.string());
  return "<table>\n" + rows + "</table>\n";
}

std::string samples_and_warnings(const std::filesystem::path& folder) {
  std::string samples, warnings;
  constexpr std::string_view mark = ": sample ";
  for (const std::string& line : log_lines(folder)) {
    if (line.starts_with("warning: ") || line.starts_with("error: ")) warnings += xml_text(line) + "\n";
    const std::size_t at = line.find(mark);
    if (at == std::string::npos || !line.starts_with("micro-step ")) continue;
    samples = concat_text("<p class=\"step\">", xml_text(line.substr(0, at)), "</p>\n", sample_html(std::string_view(line).substr(at + mark.size())), samples);
  }
  std::string html;
  if (!warnings.empty()) html += "<h3>Warnings</h3>\n<pre>" + warnings + "</pre>\n";
  if (!samples.empty()) html += "<h3>Samples, latest first: <span class=\"given\">given</span> <span class=\"made\">generated</span></h3>\n" + samples;
  return html;
}

}  // namespace

std::string run_page(const std::vector<RunCurves>& runs) {
  const FigureSize size = figure_size(runs);
  const std::unique_ptr<Canvas> canvas = make_svg_canvas(size.width, size.height);
  draw_figure(*canvas, runs);
  const std::vector<std::string> names = run_names(runs);
  std::string title;
  for (const std::string& name : names) title += (title.empty() ? "" : ", ") + xml_text(name);
  std::string html = concat_text("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>", title,
                                 "</title>\n<style>", style, "</style>\n</head>\n<body>\n<h1>", title, "</h1>\n", canvas->finish());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs.size() > 1) html += "<h2>" + xml_text(names[i]) + "</h2>\n";
    html += results(runs[i]) + samples_and_warnings(runs[i].folder);
    html += "<details><summary>Configuration</summary>\n<pre>" + xml_text(text_of(runs[i].folder / "config.yaml")) + "</pre>\n</details>\n";
  }
  return html + "</body>\n</html>\n";
}

}  // namespace mblm
