#pragma once

#include "common/workspace.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// A launch's workspace from torch's allocator. The memory may be freed before the kernel has run:
/// whoever gets it next is behind it on the stream. In a captured graph it stays the graph's.
class LaunchWorkspace {
 public:
  LaunchWorkspace(const Tensor& like, const WorkspaceSize& size)
      : scratch_(new_empty(like, {size.scratch_bytes}, kUInt8)),
        tickets_(torch::stable::new_zeros(like, {size.num_tickets}, kInt32)) {}

  Workspace get() const {
    return {static_cast<std::byte*>(scratch_.mutable_data_ptr()),
            static_cast<unsigned*>(tickets_.mutable_data_ptr())};
  }

 private:
  Tensor scratch_, tickets_;
};

}  // namespace specbranch
