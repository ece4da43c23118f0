// Bytes as text (RFC 4648, "base64", with padding).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mblm {

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);  // nothing for text that is not canonical base64

}  // namespace mblm
