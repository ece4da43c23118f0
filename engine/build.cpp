#include "engine/build.h"

#include <gnu/libc-version.h>
#include <link.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/error.h"

namespace mblm {
namespace {

struct Search {
  std::uintptr_t address;
  std::string id;  // hexadecimal
};

constexpr std::size_t shown_bytes = 8;  // of 20: enough to tell builds apart

// Finds the build id, a hash that the linker writes, in the notes of a segment.
std::string build_id(const char* note, std::size_t bytes, std::size_t alignment) {
  const auto padded = [alignment](std::size_t size) { return (size + alignment - 1) / alignment * alignment; };
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, note, sizeof header);
    const std::size_t name = sizeof header, content = padded(name + header.n_namesz), size = padded(content + header.n_descsz);
    if (size > bytes) break;
    if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 && std::memcmp(note + name, "GNU", 4) == 0) {
      std::string text;
      for (std::size_t i = 0; i < std::min<std::size_t>(header.n_descsz, shown_bytes); ++i)
        for (const int shift : {4, 0}) text += "0123456789abcdef"[static_cast<unsigned char>(note[content + i]) >> shift & 15];
      return text;
    }
    note += size;
    bytes -= size;
  }
  return {};
}

int visit_object(dl_phdr_info* object, std::size_t, void* opaque) {
  Search& search = *static_cast<Search*>(opaque);
  bool contains = false;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    contains = contains || (segment.p_type == PT_LOAD && search.address - (object->dlpi_addr + segment.p_vaddr) < segment.p_memsz);
  }
  if (!contains) return 0;
  for (int i = 0; i < object->dlpi_phnum && search.id.empty(); ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type == PT_NOTE)
      search.id = build_id(reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr), segment.p_memsz, segment.p_align == 8 ? 8 : 4);
  }
  return 1;
}

// The build id of the library or program that contains an address.
std::string build_id_of(const void* address) {
  Search search{reinterpret_cast<std::uintptr_t>(address), {}};
  dl_iterate_phdr(visit_object, &search);
  require(!search.id.empty(), "build: the library has no build id; link it with -Wl,--build-id");
  return search.id;
}

}  // namespace

std::string build_name(Device device) {
  static const char in_this_library = 0;
  std::string name = "build " + build_id_of(&in_this_library);
  if (device.kind != DeviceKind::Cpu) {
    // The table of virtual functions, to which the object begins with a pointer, is in the backend's module.
    const void* functions = nullptr;
    std::memcpy(&functions, static_cast<const void*>(&runtime_of(device.kind)), sizeof functions);
    name += "+" + build_id_of(functions);
  }
  return concat_text(name, ", glibc ", gnu_get_libc_version());
}

std::string instruction_set() {
  std::string name =
#if defined(__AVX512F__)
      "avx512";
#elif defined(__AVX2__)
      "avx2";
#elif defined(__x86_64__)
      "sse2";
#elif defined(__aarch64__)
      "neon";
#else
      "baseline";
#endif
#if defined(__AVX512BF16__)
  name += " bf16";
#endif
#if defined(__AMX_BF16__)
  name += " amx";
#endif
  return name;
}

std::string device_model(Device device) {
  if (device.kind == DeviceKind::Cpu) return name_of(device.kind);
  for (const DeviceInfo& info : runtime_of(device.kind).devices())
    if (info.device == device) return concat_text(name_of(device.kind), " ", info.description);
  throw DeviceError(concat_text("no device ", device));
}

}  // namespace mblm
