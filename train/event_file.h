// TensorBoard event files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "train/run_folder.h"

namespace mblm {

// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
std::uint32_t crc32c(std::string_view bytes);
// A TFRecord (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC of the length, the bytes, uint32 masked CRC of
// the bytes, little-endian. The masked CRC is rotate_right(crc, 15) + 0xa282ead8.
std::string tf_record(std::string_view bytes);

struct EventScalar {
  std::string tag;
  double value = 0;
};

// A file of `Event` messages (tensorflow/core/util/event.proto) with scalar summaries. Each event is on its way to disk when write
// returns, so that TensorBoard can show a run that is in progress.
class EventFile {
 public:
  // Creates `folder` if it is missing, and in it a file whose name sorts after those of earlier times. TensorBoard reads all files of a
  // folder in this order as one run; the first event makes it drop what they say from `first_step` on, which a resumed run repeats.
  // Throws FileError.
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);

  void write(std::int64_t step, const std::vector<EventScalar>& scalars);

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  AppendFile file_;
};

}  // namespace mblm
