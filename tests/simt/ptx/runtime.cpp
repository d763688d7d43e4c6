// The part of the CUDA runtime that nvcc's host objects and our launchers call. A launch finds the
// PTX of its kernel in the object's fat binary, as CUDA would, and runs it here.

#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "image.hpp"
#include "machine.hpp"
#include "program.hpp"
#include "scheduler.hpp"

namespace simt {

bool is_exempt(std::uintptr_t /*address*/) { return false; }

std::string text(const void* pc) {
  const Location& where = static_cast<const ptx::Instruction*>(pc)->where;
  return text(where) + " (PTX line " + std::to_string(where.column) + ")";
}

namespace ptx {
namespace {

enum Error { kSuccess = 0, kInvalidValue = 1, kInvalidConfiguration = 9 };
Error last_error = kSuccess;

Error report(Error error) { return last_error = error; }

struct Kernel {
  std::string name;
  const char* module;
  std::unique_ptr<const Program> program;  // made at the first launch
  std::size_t max_dynamic_shared = 48 << 10;
};

/// By their stand-ins on the host, which register themselves before main().
std::map<const void*, Kernel>& kernels() {
  static std::map<const void*, Kernel> all;
  return all;
}

/// The PTX in a fat binary: of the one architecture that it was compiled for.
const char* ptx_of(const void* fat_binary) {
  struct Header {
    std::uint32_t magic;
    std::uint16_t version, header_bytes;
    std::uint64_t bytes;
  } header;
  struct Part {
    std::uint16_t kind, version;
    std::uint32_t header_bytes;
  } part;
  constexpr std::uint32_t kMagic = 0xba55ed50;
  constexpr std::uint16_t kPtx = 1;
  const char* at = static_cast<const char*>(fat_binary);
  std::memcpy(&header, at, sizeof header);
  at += header.header_bytes;
  std::memcpy(&part, at, sizeof part);
  if (header.magic != kMagic || part.kind != kPtx) throw std::runtime_error("no PTX in an object");
  return at + part.header_bytes;
}

Kernel& kernel_named(const char* part_of_name) {
  for (auto& [stand_in, kernel] : kernels()) {
    if (kernel.name.find(part_of_name) != std::string::npos) return kernel;
  }
  throw std::runtime_error("no kernel " + std::string(part_of_name));
}

Error launch(const void* stand_in, dim3 grid, dim3 block, void** arguments, std::size_t shared) {
  Kernel& kernel = kernels().at(stand_in);
  if (kernel.program == nullptr) kernel.program = make_program(kernel.module, kernel.name);
  const Program& program = *kernel.program;
  if (block.x * block.y * block.z > program.max_threads) return report(kInvalidConfiguration);
  if (shared > kernel.max_dynamic_shared) return report(kInvalidValue);
  constexpr std::size_t kAligned = 16;
  std::vector<std::byte> memory(program.parameter_bytes + kAligned);
  std::byte* data = memory.data() + -reinterpret_cast<std::uintptr_t>(memory.data()) % kAligned;
  for (std::size_t n = 0; n < program.parameters.size(); ++n) {
    std::memcpy(data + program.parameters[n].offset, arguments[n], program.parameters[n].bytes);
  }
  parameters = {data, program.parameter_bytes};
  run_grid(grid, block, shared, [&] { program.run(); });
  return kSuccess;
}

struct Call {
  dim3 grid, block;
  std::size_t shared = 0;
  void* stream = nullptr;
} pushed;

}  // namespace
}  // namespace ptx
}  // namespace simt

using namespace simt::ptx;

/// The PTX of the module that has a kernel with this in its name.
SIMT_EXPORT const char* simt_ptx(const char* part_of_name) {
  return kernel_named(part_of_name).module;
}

/// Launches of that kernel run other PTX from now on; its own, if the text is null.
SIMT_EXPORT int simt_replace_ptx(const char* part_of_name, const char* text) {
  return simt::guarded([&] {
    Kernel& kernel = kernel_named(part_of_name);
    kernel.program = make_program(text == nullptr ? kernel.module : text, kernel.name);
  });
}

extern "C" {

struct FatBinary {
  int magic, version;
  const void* data;
  void* file;
};
void** __cudaRegisterFatBinary(FatBinary* binary) { return reinterpret_cast<void**>(binary); }
void __cudaRegisterFatBinaryEnd(void** /*binary*/) {}
void __cudaUnregisterFatBinary(void** /*binary*/) {}

void __cudaRegisterFunction(void** binary, const void* stand_in, char* /*name*/, const char* name,
                            int, void*, void*, void*, void*, void*) {
  const char* module = ptx_of(reinterpret_cast<FatBinary*>(binary)->data);
  kernels().insert_or_assign(stand_in, Kernel{name, module, nullptr});
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, void* stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
int __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *static_cast<void**>(stream) = pushed.stream;
  return kSuccess;
}

int __cudaGetKernel(const void** kernel, const void* stand_in) {
  *kernel = stand_in;
  return kSuccess;
}
int __cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                       std::size_t shared, void* /*stream*/) {
  return launch(kernel, grid, block, arguments, shared);
}

int cudaFuncSetAttribute(const void* stand_in, int /*attribute*/, int value) {
  kernels().at(stand_in).max_dynamic_shared = value;
  return kSuccess;
}

int cudaGetLastError() { return std::exchange(last_error, kSuccess); }
const char* cudaGetErrorString(int error) {
  return error == kSuccess ? "no error" : "invalid configuration or value";
}

}  // extern "C"
