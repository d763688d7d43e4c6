#pragma once

#include <span>

#include "common/cpu/capability.h"

// The build compiles the kernels of every family's cpu/ once per capability, with CPU_CAPABILITY
// set the way at::vec wants it. A kernel defines its function in SPECBRANCH_CPU_NS, and so does
// every header with vector code, so that the variants never share an inline function.
#if defined(CPU_CAPABILITY_AVX512)
#define SPECBRANCH_CPU_NS avx512
#elif defined(CPU_CAPABILITY_AVX2)
#define SPECBRANCH_CPU_NS avx2
#else
#define SPECBRANCH_CPU_NS default_
#endif

namespace specbranch {

struct TreeMaskParams;
struct AppendKvParams;
struct BranchAttentionParams;
struct CompactKvParams;
struct SamplingProbsParams;
struct SampleParams;
struct DraftTopkParams;
struct VerifyTreeParams;
struct GatherRowsParams;
struct AddRmsNormParams;
struct RopeAppendKvParams;
struct GatedActivationParams;
struct SoftcapParams;
struct PackedLinearParams;
struct QuantizedLinearParams;
struct QuantizedRowsParams;

/// One compiled variant of all CPU kernels.
struct CpuKernels {
  void (*tree_mask)(const TreeMaskParams&);
  void (*append_kv)(const AppendKvParams&);
  void (*branch_attention)(const BranchAttentionParams&);
  void (*compact_kv)(const CompactKvParams&);
  void (*sampling_probs)(const SamplingProbsParams&);
  void (*sample)(const SampleParams&);
  void (*draft_topk)(const DraftTopkParams&);
  void (*verify_tree)(const VerifyTreeParams&);
  void (*gather_rows)(const GatherRowsParams&);
  void (*add_rms_norm)(const AddRmsNormParams&);
  void (*rope_append_kv)(const RopeAppendKvParams&);
  void (*gated_activation)(const GatedActivationParams&);
  void (*softcap)(const SoftcapParams&);
  void (*packed_linear)(const PackedLinearParams&);
  void (*quantized_linear)(const QuantizedLinearParams&);
  void (*quantized_rows)(const QuantizedRowsParams&);
};

struct CpuVariant {
  CpuCapability capability;
  const CpuKernels* kernels;
};

/// What was compiled in, lowest capability first.
std::span<const CpuVariant> compiled_cpu_variants();

/// The best compiled variant that this processor runs, chosen at first use. The environment
/// variable SPECBRANCH_CPU_CAPABILITY=default|avx2|avx512 lowers the choice.
/// Throws std::runtime_error where no variant fits.
const CpuVariant& cpu_variant();

inline const CpuKernels& cpu_kernels() { return *cpu_variant().kernels; }

}  // namespace specbranch
