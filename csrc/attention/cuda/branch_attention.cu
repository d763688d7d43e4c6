#include "attention/cuda/branch_attention_plain.cuh"
#include "attention/cuda/mma_launch.h"
#include "attention/launch.h"
#include "common/cuda/launch.cuh"

namespace specbranch {
namespace {

template <class T>
void launch_plain(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  launch_kernel("branch_attention", branch_attention_plain_kernel<T>,
                {grid, dim3(kAttentionThreads), sizeof(PlainShared)}, stream, launch);
}

void launch_plain(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  switch (launch.params.dtype) {
    case DType::kFloat32:
      return launch_plain<float>(launch, grid, stream);
    case DType::kFloat16:
      return launch_plain<__half>(launch, grid, stream);
    case DType::kBFloat16:
      return launch_plain<__nv_bfloat16>(launch, grid, stream);
  }
}

void launch_mma(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  dispatch(launch.params.dtype, MmaDTypes{}, [&]<DType dtype>() {
    dispatch(mma_head_dim(launch.params), MmaHeadDims{},
             [&]<int head_dim>() { launch_mma<dtype, head_dim>(launch, grid, stream); });
  });
}

}  // namespace

void launch_branch_attention(const BranchAttentionParams& params, const SplitPlan& plan,
                             const Workspace& workspace, CudaStream stream) {
  BranchAttentionLaunch launch{params, plan, workspace.tickets};
  launch.params.workspace = reinterpret_cast<float*>(workspace.scratch);
  const dim3 grid(plan.max_row_tiles, plan.max_splits, params.num_kv_heads);
  if (uses_tensor_cores(params)) {
    launch_mma(launch, grid, stream);
  } else {
    launch_plain(launch, grid, stream);
  }
}

}  // namespace specbranch
