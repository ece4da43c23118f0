// Surfaces for drawings: SVG text, and PNG where the build has cairo.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mblm {

struct Point {
  double x = 0, y = 0;
};
struct Box {
  double x = 0, y = 0, width = 0, height = 0;
  double right() const { return x + width; }
  double bottom() const { return y + height; }
};
struct Pen {
  std::string colour;  // #rrggbb
  double width = 1, opacity = 1;
  bool dashed = false;
};
enum class Anchor { Start, Middle, End };
struct TextStyle {
  double size = 12;
  std::string colour = "#333333";
  Anchor anchor = Anchor::Start;
  bool bold = false;
};

// Units are pixels, from the upper left corner.
class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void fill(const Box& box, const std::string& colour) = 0;
  // Draws only within `clip`.
  virtual void path(const std::vector<Point>& points, const Pen& pen, const Box& clip) = 0;
  virtual void dot(Point centre, double radius, const std::string& colour) = 0;
  virtual void text(Point baseline, std::string_view text, const TextStyle& style) = 0;
  // The content of the file.
  virtual std::string finish() = 0;
};

std::unique_ptr<Canvas> make_svg_canvas(double width, double height);
// Null if the build has no cairo. `scale` pixels of the file are one unit.
std::unique_ptr<Canvas> make_png_canvas(double width, double height, double scale);

// Text for XML and HTML: escapes & < > " and replaces control characters, except line feed and tab, and bytes that are not UTF-8.
std::string xml_text(std::string_view text);

}  // namespace mblm
