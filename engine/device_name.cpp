#include "engine/device_name.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "engine/error.h"

namespace mblm {

std::optional<DeviceChoice> parse_device(const std::string& name) {
  constexpr std::string_view prefix = "cuda:";
  constexpr std::size_t most_digits = 3;
  if (name == "auto") return DeviceChoice{.device = {DeviceKind::Cuda, 0}, .or_cpu = true};
  if (name == "cpu") return DeviceChoice{};
  if (name == "cuda") return DeviceChoice{.device = {DeviceKind::Cuda, 0}};
  if (!name.starts_with(prefix)) return {};
  const std::string_view digits = std::string_view(name).substr(prefix.size());
  if (digits.empty() || digits.size() > most_digits || digits.find_first_not_of("0123456789") != digits.npos) return {};
  Device device{DeviceKind::Cuda};
  std::from_chars(digits.data(), digits.data() + digits.size(), device.index);
  return DeviceChoice{.device = device, .has_index = true};
}

Device open_device(const std::string& name, const std::function<void(const std::string&)>& on_note, int local_rank) {
  const std::optional<DeviceChoice> choice = parse_device(name);
  require<DeviceError>(choice.has_value(), "device: expected ", device_forms, ", got ", name);
  if (choice->device == Device{}) return {};
  const std::vector<std::string> reasons = load_backends();
  const std::vector<DeviceInfo> present = available_devices();
  const auto count = std::count_if(present.begin(), present.end(), [&](const DeviceInfo& info) { return info.device.kind == choice->device.kind; });
  Device device = choice->device;
  if (!choice->has_index && count > 0) device.index = local_rank % static_cast<int>(count);
  if (device.index < count) return device;
  std::string text;
  for (const std::string& reason : reasons) {
    if (choice->or_cpu && on_note) on_note(reason + "; using the CPU");
    text += "; " + reason;
  }
  require<DeviceError>(choice->or_cpu, "--device: expected a device of this machine (see mblm info devices), got ", name, text);
  return {};
}

}  // namespace mblm
