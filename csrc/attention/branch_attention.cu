#include "attention/branch_attention_plain.cuh"
#include "attention/launch.h"
#include "attention/mma_launch.h"
#include "common/cuda_launch.cuh"

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
  const std::int64_t head_dim = launch.params.head_dim;
  if (head_dim <= 64) return launch_mma<64>(launch, grid, stream);
  if (head_dim <= 96) return launch_mma<96>(launch, grid, stream);
  if (head_dim <= 128) return launch_mma<128>(launch, grid, stream);
  launch_mma<256>(launch, grid, stream);
}

}  // namespace

void launch_branch_attention(const BranchAttentionParams& params, const SplitPlan& plan,
                             CudaStream stream) {
  const BranchAttentionLaunch launch{params, plan, plan.num_tickets(params)};
  const dim3 grid(plan.row_tiles, plan.max_splits, params.batch_size * params.num_kv_heads);
  if (uses_tensor_cores(params)) {
    launch_mma(launch, grid, stream);
  } else {
    launch_plain(launch, grid, stream);
  }
}

}  // namespace specbranch
