#pragma once

#include <cmath>
#include <cstdint>

#include "common/cpu/vec.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// out = norm of x, for one row of floats or of T. `out` may be x.
template <class T, class In, class Out>
void rms_norm_row(const RmsNorm& norm, const In* x, Out* out, std::int64_t width) {
  Vec squares(0.0f);
  for_each_vec(width, [&](std::int64_t i, std::int64_t count) {
    const Vec v = load(x + i, count);
    squares = at::vec::fmadd(v, v, squares);
  });
  const Vec factor(1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + norm.eps));
  const T* weight = static_cast<const T*>(norm.weight);
  for_each_vec(width, [&](std::int64_t i, std::int64_t count) {
    const Vec scale = load(weight + i, count) + Vec(norm.offset);
    store(out + i, load(x + i, count) * factor * scale, count);
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
