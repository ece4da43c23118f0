// Device names in options and configs.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/device.h"

namespace mblm {

inline constexpr const char* device_forms = "auto, cpu, cuda or cuda:N";

struct DeviceChoice {
  Device device;
  bool or_cpu = false;  // use the CPU if the device is missing
};

// Parses a device name; N has at most three digits. Returns nothing for any other text.
std::optional<DeviceChoice> parse_device(const std::string& name);

// Loads the backends and returns the device called `name`. Passes to `on_note` one line for each backend module that cannot
// be opened. Throws DeviceError for a missing device and an invalid name.
Device open_device(const std::string& name, const std::function<void(const std::string&)>& on_note = {});

}  // namespace mblm
