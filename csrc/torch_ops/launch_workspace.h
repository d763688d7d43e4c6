#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/workspace.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// Checks a workspace that was given, without which an op makes its own.
inline void check_workspace(OpCheck& op, const Tensor& given, std::int64_t num_floats) {
  constexpr std::intptr_t kAlignment = 16;  // bytes
  const TensorArg workspace = op.output("workspace", given, {kFloat32}, {"workspace size"});
  const std::int64_t floats = op.size("workspace size");
  op.require(floats >= num_floats, "workspace",
             "at least " + std::to_string(num_floats) + " floats", floats);
  const std::intptr_t misaligned = reinterpret_cast<std::intptr_t>(workspace.data()) % kAlignment;
  op.require(misaligned == 0, "workspace", "an address that is a multiple of 16 bytes", misaligned);
}

/// The workspace of a launch: the caller's, or one from torch's allocator. That may be freed before
/// the kernel has run: whoever gets the memory next is behind it on the stream. In a captured graph
/// it stays the graph's.
class LaunchWorkspace {
 public:
  LaunchWorkspace(OpCheck& op, const Tensor& like, const std::optional<Tensor>& given,
                  const WorkspaceSize& size)
      : memory_(given ? *given : new_memory(like, size)), size_(size) {
    if (!given) return;
    check_workspace(op, memory_, size.num_floats());
    op.require(
        size.num_tickets <= kKeptTickets, "workspace",
        "None for a call of so many rows: at most " + std::to_string(kKeptTickets) + " tickets",
        size.num_tickets);
  }

  Workspace get() const { return {static_cast<float*>(memory_.mutable_data_ptr()), size_}; }

 private:
  static Tensor new_memory(const Tensor& like, const WorkspaceSize& size) {
    Tensor memory = new_empty(like, {size.num_floats()}, kFloat32);
    if (size.num_tickets == 0) return memory;
    Tensor tickets = torch::stable::narrow(memory, 0, 0, size.num_tickets);
    torch::stable::zero_(tickets);
    return memory;
  }

  Tensor memory_;
  WorkspaceSize size_;
};

}  // namespace specbranch
