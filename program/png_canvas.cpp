#include "program/canvas.h"

#ifdef MBLM_CAIRO
#include <cairo.h>

#include <cstdlib>
#include <numbers>

#include "engine/error.h"
#endif

namespace mblm {

#ifdef MBLM_CAIRO
namespace {

class PngCanvas final : public Canvas {
 public:
  PngCanvas(double width, double height, double scale)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width * scale), static_cast<int>(height * scale))), cairo_(cairo_create(surface_)) {
    cairo_scale(cairo_, scale, scale);
    cairo_set_line_join(cairo_, CAIRO_LINE_JOIN_ROUND);
  }
  ~PngCanvas() override {
    cairo_destroy(cairo_);
    cairo_surface_destroy(surface_);
  }
  PngCanvas(const PngCanvas&) = delete;
  PngCanvas& operator=(const PngCanvas&) = delete;

  void fill(const Box& box, const std::string& colour) override {
    use(colour, 1);
    cairo_rectangle(cairo_, box.x, box.y, box.width, box.height);
    cairo_fill(cairo_);
  }

  void path(const std::vector<Point>& points, const Pen& pen, const Box& clip) override {
    cairo_save(cairo_);
    cairo_rectangle(cairo_, clip.x, clip.y, clip.width, clip.height);
    cairo_clip(cairo_);
    for (const Point& point : points) cairo_line_to(cairo_, point.x, point.y);
    use(pen.colour, pen.opacity);
    cairo_set_line_width(cairo_, pen.width);
    constexpr double dashes[] = {5, 3};
    if (pen.dashed) cairo_set_dash(cairo_, dashes, 2, 0);
    cairo_stroke(cairo_);
    cairo_restore(cairo_);
  }

  void dot(Point centre, double radius, const std::string& colour) override {
    use(colour, 1);
    cairo_arc(cairo_, centre.x, centre.y, radius, 0, 2 * std::numbers::pi);
    cairo_fill(cairo_);
  }

  void text(Point baseline, std::string_view text, const TextStyle& style) override {
    std::string valid(text);
    if (xml_text(text).find("\xef\xbf\xbd") != std::string::npos)  // cairo refuses text that is not UTF-8
      for (char& c : valid)
        if (static_cast<unsigned char>(c) >= 0x7f || static_cast<unsigned char>(c) < ' ') c = '?';
    cairo_select_font_face(cairo_, "sans-serif", CAIRO_FONT_SLANT_NORMAL, style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo_, style.size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_, valid.c_str(), &extents);
    const double shift = style.anchor == Anchor::Start ? 0 : style.anchor == Anchor::Middle ? extents.x_advance / 2 : extents.x_advance;
    use(style.colour, 1);
    cairo_move_to(cairo_, baseline.x - shift, baseline.y);
    cairo_show_text(cairo_, valid.c_str());
  }

  std::string finish() override {
    std::string file;
    const auto append = [](void* to, const unsigned char* data, unsigned size) {
      static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(data), size);
      return CAIRO_STATUS_SUCCESS;
    };
    const cairo_status_t status = cairo_surface_write_to_png_stream(surface_, append, &file);
    require<FileError>(status == CAIRO_STATUS_SUCCESS && cairo_status(cairo_) == CAIRO_STATUS_SUCCESS, "plot: cannot draw: ",
                       cairo_status_to_string(status != CAIRO_STATUS_SUCCESS ? status : cairo_status(cairo_)));
    return file;
  }

 private:
  void use(const std::string& colour, double opacity) {
    const long rgb = std::strtol(colour.c_str() + 1, nullptr, 16);
    const auto part = [rgb](int shift) { return static_cast<double>(rgb >> shift & 0xff) / 255; };
    cairo_set_source_rgba(cairo_, part(16), part(8), part(0), opacity);
  }

  cairo_surface_t* surface_;
  cairo_t* cairo_;
};

}  // namespace

std::unique_ptr<Canvas> make_png_canvas(double width, double height, double scale) { return std::make_unique<PngCanvas>(width, height, scale); }
#else
std::unique_ptr<Canvas> make_png_canvas(double, double, double) { return nullptr; }
#endif

}  // namespace mblm
