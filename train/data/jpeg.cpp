#include "train/data/jpeg.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>

#include "engine/error.h"

namespace mblm {
namespace {

// The libjpeg objects for one stream. libjpeg reports errors by longjmp, which skips destructors: functions that can fail are called
// in `compress`, which has no local objects with destructors.
class JpegWriter {
 public:
  JpegWriter() {
    state_.err = jpeg_std_error(&errors_);
    state_.client_data = this;
    errors_.error_exit = on_error;
    errors_.output_message = [](j_common_ptr) {};
  }
  ~JpegWriter() {
    jpeg_destroy_compress(&state_);
    std::free(buffer_);
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

  std::vector<std::uint8_t> write(const Image& image, int quality, bool in_rgb) {
    if (setjmp(jump_) != 0) throw ValueError(concat_text("jpeg: image of ", image.width, " x ", image.height, ": ", message_));
    compress(image, quality, in_rgb);
    return {buffer_, buffer_ + size_};
  }

 private:
  void compress(const Image& image, int quality, bool in_rgb) {
    jpeg_create_compress(&state_);
    jpeg_mem_dest(&state_, &buffer_, &size_);
    state_.image_width = static_cast<JDIMENSION>(image.width);
    state_.image_height = static_cast<JDIMENSION>(image.height);
    state_.input_components = 3;
    state_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&state_);
    if (in_rgb) jpeg_set_colorspace(&state_, JCS_RGB);
    jpeg_set_quality(&state_, quality, TRUE);
    jpeg_start_compress(&state_, TRUE);
    while (state_.next_scanline < state_.image_height) {
      JSAMPROW row = const_cast<JSAMPROW>(image.row(state_.next_scanline));
      jpeg_write_scanlines(&state_, &row, 1);
    }
    jpeg_finish_compress(&state_);
  }

  [[noreturn]] static void on_error(j_common_ptr state) {
    JpegWriter& writer = *static_cast<JpegWriter*>(state->client_data);
    state->err->format_message(state, writer.message_);
    std::longjmp(writer.jump_, 1);
  }

  jpeg_compress_struct state_{};
  jpeg_error_mgr errors_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = {};
  unsigned char* buffer_ = nullptr;  // allocated by libjpeg with malloc
  unsigned long size_ = 0;
};

}  // namespace

std::vector<std::uint8_t> jpeg_stream(const Image& image, int quality, bool in_rgb) { return JpegWriter().write(image, quality, in_rgb); }

}  // namespace mblm
