#pragma once

#include <cstdint>

#include "location.hpp"

namespace simt {

/// ldmatrix.x4: four matrices of 8 rows of 16 bytes; lanes 8i to 8i + 7 name the rows of matrix i.
/// registers[i] of a lane gets its two elements of matrix i.
void load_matrices(std::uint32_t* registers, bool transposed, const void* row,
                   const Location& where, const void* pc);

/// mma.m16n8k16, row.col, with fp32 accumulation: d[4] += a[4] (16-bit pairs) * b[2].
void multiply_fp16(float* d, const std::uint32_t* a, const std::uint32_t* b, const Location& where);
void multiply_bf16(float* d, const std::uint32_t* a, const std::uint32_t* b, const Location& where);

}  // namespace simt
