#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "engine/error.h"
#include "program/canvas.h"

namespace mblm {
namespace {

// At most one digit after the point: a tenth of a pixel.
std::string coordinate(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  std::string result = text.data();
  if (result.ends_with(".0")) result.resize(result.size() - 2);
  return result;
}

std::string corners(const Box& box) {
  return concat_text("x=\"", coordinate(box.x), "\" y=\"", coordinate(box.y), "\" width=\"", coordinate(box.width), "\" height=\"", coordinate(box.height), "\"");
}

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(double width, double height)
      : head_(concat_text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", coordinate(width), " ", coordinate(height), "\" width=\"", coordinate(width),
                          "\" height=\"", coordinate(height), "\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n")) {}

  void fill(const Box& box, const std::string& colour) override { body_ += concat_text("<rect ", corners(box), " fill=\"", colour, "\"/>\n"); }

  void path(const std::vector<Point>& points, const Pen& pen, const Box& clip) override {
    if (points.empty()) return;
    body_ += concat_text("<polyline fill=\"none\" stroke=\"", pen.colour, "\" stroke-width=\"", coordinate(pen.width), "\" stroke-linejoin=\"round\"",
                         pen.opacity < 1 ? concat_text(" opacity=\"", pen.opacity, "\"") : "", pen.dashed ? " stroke-dasharray=\"5 3\"" : "",
                         " clip-path=\"url(#", clip_id(clip), ")\" points=\"");
    for (std::size_t i = 0; i < points.size(); ++i) body_ += concat_text(i == 0 ? "" : " ", coordinate(points[i].x), ",", coordinate(points[i].y));
    body_ += "\"/>\n";
  }

  void dot(Point centre, double radius, const std::string& colour) override {
    body_ += concat_text("<circle cx=\"", coordinate(centre.x), "\" cy=\"", coordinate(centre.y), "\" r=\"", coordinate(radius), "\" fill=\"", colour, "\"/>\n");
  }

  void text(Point baseline, std::string_view text, const TextStyle& style) override {
    const char* anchor = style.anchor == Anchor::Start ? "start" : style.anchor == Anchor::Middle ? "middle" : "end";
    body_ += concat_text("<text x=\"", coordinate(baseline.x), "\" y=\"", coordinate(baseline.y), "\" font-size=\"", coordinate(style.size), "\" fill=\"", style.colour,
                         "\" text-anchor=\"", anchor, "\"", style.bold ? " font-weight=\"bold\"" : "", ">", xml_text(text), "</text>\n");
  }

  std::string finish() override {
    std::string clips = "<defs>";
    for (std::size_t i = 0; i < clips_.size(); ++i) clips += concat_text("<clipPath id=\"area", i, "\"><rect ", corners(clips_[i]), "/></clipPath>");
    return concat_text(head_, clips, "</defs>\n", body_, "</svg>\n");
  }

 private:
  std::string clip_id(const Box& clip) {
    std::size_t i = 0;
    while (i < clips_.size() && !(clips_[i].x == clip.x && clips_[i].y == clip.y && clips_[i].width == clip.width && clips_[i].height == clip.height)) ++i;
    if (i == clips_.size()) clips_.push_back(clip);
    return concat_text("area", i);
  }

  std::string head_, body_;
  std::vector<Box> clips_;
};

// The length of the UTF-8 sequence at the front of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates and code points above U+10FFFF.
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) >= 0xa0) || (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) >= 0x90)) return 0;
  return length;
}

}  // namespace

std::unique_ptr<Canvas> make_svg_canvas(double width, double height) { return std::make_unique<SvgCanvas>(width, height); }

std::string xml_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const char c = text.front();
    const std::size_t length = utf8_length(text);
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (length == 0 || (length == 1 && c < ' ' && c != '\n' && c != '\t') || c == 0x7f) out += "\xef\xbf\xbd";  // U+FFFD
    else out += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(1, length));
  }
  return out;
}

}  // namespace mblm
