#include <cstdint>

#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rms_norm.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

template <class T>
void add_row(const T* x, T* residual, std::int64_t width) {
  for_each_vec(width, [&](std::int64_t i, std::int64_t count) {
    store(residual + i, load(residual + i, count) + load(x + i, count), count);
  });
}

}  // namespace

void add_rms_norm(const AddRmsNormParams& p) {
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    for_each_row(p.num_rows, p.width, [&](std::int64_t row) {
      T* residual = static_cast<T*>(p.residual) + row * p.residual_stride;
      if (p.x != nullptr) add_row(static_cast<const T*>(p.x) + row * p.x_stride, residual, p.width);
      rms_norm_row<T>(p.norm, residual, static_cast<T*>(p.out) + row * p.out_stride, p.width);
    });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
