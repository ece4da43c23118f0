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
  bool or_cpu = false;     // use the CPU if the device is missing
  bool has_index = false;  // the name contains the index
};

// Parses a device name; N has at most three digits. Returns nothing for any other text.
std::optional<DeviceChoice> parse_device(const std::string& name);

// Loads the backends and returns the device called `name`. A name without an index selects the first GPU, or for process `local_rank`
// of a host GPU number `local_rank`, modulo the number of GPUs. If `auto` falls back to the CPU, passes to `on_note` one line for each
// backend module that cannot be used. Throws DeviceError for a missing device and an invalid name.
Device open_device(const std::string& name, const std::function<void(const std::string&)>& on_note = {}, int local_rank = 0);

}  // namespace mblm
