// mblm info: what a configuration or a model is, or what this machine offers.
#include <iomanip>
#include <sstream>

#include "engine/device.h"
#include "engine/kernel.h"
#include "mblm/program.h"
#include "mblm/progress_line.h"

namespace mblm {
namespace {

void load_all_backends() {
  for (const std::string& reason : load_backends()) write_note(reason);
}

std::string devices_text() {
  std::ostringstream out;
  for (const DeviceInfo& info : available_devices())
    out << std::left << std::setw(8) << concat_text(info.device) << "  " << format_bytes(static_cast<double>(info.memory_bytes)) << "  " << info.description << '\n';
  return std::move(out).str();
}

// A line per slot: its name, and per device the element types that its function takes.
std::string kernels_text() {
  std::ostringstream out;
  for (const KernelSlot* slot : kernel_slots()) {
    out << std::left << std::setw(32) << slot->name();
    for (int kind = 0; kind < device_kinds; ++kind) {
      const auto device = static_cast<DeviceKind>(kind);
      if (!slot->has(device)) continue;
      out << "  " << name_of(device) << ':';
      for (int dtype = 0; dtype < dtype_count; ++dtype)
        if (slot->takes(device, static_cast<DType>(dtype))) out << ' ' << static_cast<DType>(dtype);
    }
    out << '\n';
  }
  return std::move(out).str();
}

bool is_yaml(const std::string& path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

}  // namespace

int run(const InfoCommand& command) {
  if (command.subject == "devices" || command.subject == "kernels") {
    load_all_backends();
    write_output(command.subject == "devices" ? devices_text() : kernels_text());
    return 0;
  }
  return 0;
}

}  // namespace mblm
