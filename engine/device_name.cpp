#include "engine/device_name.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "engine/error.h"

namespace mblm {

std::optional<DeviceChoice> parse_device(const std::string& name) {
  constexpr std::string_view prefix = "cuda:";
  constexpr std::size_t most_digits = 3;
  if (name == "auto") return DeviceChoice{{DeviceKind::Cuda, 0}, true};
  if (name == "cpu") return DeviceChoice{};
  if (name == "cuda") return DeviceChoice{{DeviceKind::Cuda, 0}};
  if (!name.starts_with(prefix)) return {};
  const std::string_view digits = std::string_view(name).substr(prefix.size());
  if (digits.empty() || digits.size() > most_digits || digits.find_first_not_of("0123456789") != digits.npos) return {};
  Device device{DeviceKind::Cuda};
  std::from_chars(digits.data(), digits.data() + digits.size(), device.index);
  return DeviceChoice{device};
}

Device open_device(const std::string& name, const std::function<void(const std::string&)>& on_note) {
  const std::optional<DeviceChoice> choice = parse_device(name);
  require<DeviceError>(choice.has_value(), "device: expected ", device_forms, ", got ", name);
  if (choice->device == Device{}) return {};
  for (const std::string& reason : load_backends())
    if (on_note) on_note(reason);
  const std::vector<DeviceInfo> present = available_devices();
  const bool found = std::any_of(present.begin(), present.end(), [&](const DeviceInfo& info) { return info.device == choice->device; });
  require<DeviceError>(found || choice->or_cpu, "--device: expected a device of this machine (see mblm info devices), got ", name);
  return found ? choice->device : Device{};
}

}  // namespace mblm
