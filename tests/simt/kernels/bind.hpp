#pragma once

#include <cstdio>
#include <exception>

#define SIMT_EXPORT extern "C" __attribute__((visibility("default")))

namespace simt {

/// The message of the latest failed call.
inline char message[4096];

/// For ctypes: 0, or 1 and a message.
template <class F>
int guarded(const F& call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(message, sizeof message, "%s", error.what());
    return 1;
  }
}

}  // namespace simt

/// A launcher of csrc for Python: name(params), and name_params_bytes() to compare layouts.
#define SIMT_LAUNCHER(name, Params, launch)                  \
  SIMT_EXPORT int name(const Params* params) {               \
    return simt::guarded([&] { launch(*params, nullptr); }); \
  }                                                          \
  SIMT_EXPORT long name##_params_bytes() { return sizeof(Params); }
