#include "image.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdio>

#include "location.hpp"

namespace simt {
namespace {

struct Image {
  std::uintptr_t begin = UINTPTR_MAX;
  std::uintptr_t end = 0;
};

std::uintptr_t load_address() {
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&is_exempt), &info);
  return reinterpret_cast<std::uintptr_t>(info.dli_fbase);
}

int visit(dl_phdr_info* info, std::size_t /*size*/, void* found) {
  Image image;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    image.begin = std::min<std::uintptr_t>(image.begin, begin);
    image.end = std::max<std::uintptr_t>(image.end, begin + segment.p_memsz);
  }
  const std::uintptr_t base = load_address();
  if (base < image.begin || base >= image.end) return 0;
  *static_cast<Image*>(found) = image;
  return 1;
}

Image find_image() {
  Image image;
  dl_iterate_phdr(visit, &image);
  return image;
}

}  // namespace

bool is_exempt(std::uintptr_t address) {
  static const Image image = find_image();
  return address >= image.begin && address < image.end;
}

std::string text(const void* pc) {
  // The address after the call: one less is in the line of the access.
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(pc) - load_address() - 1;
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "<0x%zx>", static_cast<std::size_t>(offset));
  return buffer;
}

}  // namespace simt
