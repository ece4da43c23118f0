// Output of generated ids: as text, raw bytes or decimal numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "mblm/utf8.h"

namespace mblm {

enum class OutputForm { Text, Raw, Ids };

// Converts a stream of ids to text for `write`. Ids above 255 are not bytes: only the Ids form writes them.
class ByteWriter {
 public:
  ByteWriter(OutputForm form, std::function<void(std::string_view)> write) : form_(form), write_(std::move(write)) {}

  void put(std::int64_t id);
  // Ends a sequence; the next put() starts a new one.
  void finish();

 private:
  OutputForm form_;
  std::function<void(std::string_view)> write_;
  Utf8Decoder decoder_;
  bool first_ = true;
};

}  // namespace mblm
