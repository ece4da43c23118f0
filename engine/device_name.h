// Devices by the names that options and configs give them.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/device.h"

namespace mblm {

inline constexpr const char* device_forms = "auto, cpu, cuda or cuda:N";

struct DeviceChoice {
  Device device;
  bool or_cpu = false;  // the CPU if that device is missing
};

// What a name of these forms asks for; N has at most three digits. Nothing for other text.
std::optional<DeviceChoice> parse_device(const std::string& name);

// Loads the backends and finds the device that `name` asks for. `on_note` gets one line for each backend module that does not
// open. Throws DeviceError for a device that is missing and for a name of another form.
Device open_device(const std::string& name, const std::function<void(const std::string&)>& on_note = {});

}  // namespace mblm
