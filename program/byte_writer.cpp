#include "program/byte_writer.h"

namespace mblm {

void ByteWriter::put(std::int64_t id) {
  std::string out;
  if (form_ == OutputForm::Ids) {
    out = (first_ ? "" : " ") + std::to_string(id);
  } else if (id <= 255) {
    const auto byte = static_cast<std::uint8_t>(id);
    out = form_ == OutputForm::Raw ? std::string(1, static_cast<char>(byte)) : decoder_.push(byte);
  }
  first_ = false;
  if (!out.empty()) write_(out);
}

void ByteWriter::finish() {
  const std::string rest = decoder_.flush();
  if (form_ == OutputForm::Raw) return;
  write_(rest + "\n");
  first_ = true;
}

}  // namespace mblm
