#include "train/data/image.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <string>

#include <png.h>

#include "engine/error.h"
#include "engine/io/file.h"

namespace mblm {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// The libpng objects for one file. libpng reports errors by longjmp, which skips destructors: functions that can fail are called
// through `run` and must not have local objects with destructors.
class PngReader {
 public:
  explicit PngReader(const std::filesystem::path& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
    if (file_ == nullptr) throw_file_error(path, "cannot be read");
    check_signature();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ != nullptr) return;
    png_destroy_read_struct(&png_, nullptr, nullptr);
    throw MemoryError(path.string() + ": not enough memory for libpng");
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  Image read() {
    run([](PngReader& r) { r.read_header(); });
    check_header();
    run([](PngReader& r) { r.set_transformations(); });
    Image image(png_get_image_width(png_, info_), png_get_image_height(png_, info_));
    require(png_get_rowbytes(png_, info_) == static_cast<std::size_t>(image.width * 3), path_.string(), ": expected rows of ", image.width * 3,
            " bytes from libpng, got ", png_get_rowbytes(png_, info_));
    rows_.resize(static_cast<std::size_t>(image.height));
    for (std::int64_t y = 0; y < image.height; ++y) rows_[static_cast<std::size_t>(y)] = image.row(y);
    run([](PngReader& r) { r.read_pixels(); });
    return image;
  }

 private:
  void check_signature() {
    png_byte start[8] = {};
    const std::size_t got = std::fread(start, 1, sizeof start, file_.get());
    if (got < sizeof start && std::ferror(file_.get()) != 0) throw_file_error(path_, "cannot be read");
    require<FileError>(png_sig_cmp(start, 0, sizeof start) == 0, path_.string(), ": expected a PNG image, found another file format");
  }

  void run(void (*step)(PngReader&)) {
    if (setjmp(png_jmpbuf(png_)) != 0) throw FileError(path_.string() + ": damaged PNG image: " + message_);
    step(*this);
  }

  void read_header() {
    png_init_io(png_, file_.get());
    png_set_sig_bytes(png_, 8);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_header reports sizes above the limit
    png_read_info(png_, info_);
  }

  void check_header() const {
    const std::int64_t width = png_get_image_width(png_, info_), height = png_get_image_height(png_, info_);
    require<FileError>(width <= most_pixels / height, path_.string(), ": expected an image of at most ", most_pixels, " pixels, found ", width, " x ",
                       height);
    const int depth = png_get_bit_depth(png_, info_);
    require<FileError>(depth <= 8, path_.string(), ": expected an image with up to 8 bits per channel, found ", depth);
  }

  void set_transformations() {
    png_set_palette_to_rgb(png_);
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  }

  void read_pixels() {
    png_read_image(png_, rows_.data());
    png_read_end(png_, nullptr);
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    std::snprintf(static_cast<PngReader*>(png_get_error_ptr(png))->message_, sizeof message_, "%s", message);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}

  const std::filesystem::path& path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::vector<png_bytep> rows_;
  char message_[200] = {};
};

}  // namespace

Image read_png(const std::filesystem::path& path) { return PngReader(path).read(); }

Image cropped(const Image& image, std::int64_t columns, std::int64_t rows) {
  const std::int64_t width = image.width - 2 * columns, height = image.height - 2 * rows;
  require<ValueError>(columns >= 0 && rows >= 0 && width > 0 && height > 0, "crop: removing ", columns, " columns and ", rows,
                      " rows on each side leaves nothing of an image of ", image.width, " x ", image.height);
  Image result(width, height);
  for (std::int64_t y = 0; y < height; ++y) std::copy_n(image.row(rows + y) + columns * 3, width * 3, result.row(y));
  return result;
}

}  // namespace mblm
