#include <cstdint>

#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

/// 1 / (1 + e^-x).
Vec sigmoid(const Vec& x) {
  const Vec small = exp_nonpositive(x.abs().neg());  // e^-|x|
  const Vec above = Vec(1.0f) / (Vec(1.0f) + small);
  return Vec::blendv(above, small * above, x < Vec(0.0f));
}

/// tanh-GELU is x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 x^3)).
Vec gelu_argument(const Vec& x) {
  return x * at::vec::fmadd(x * x, Vec(2 * 0.7978845608f * 0.044715f), Vec(2 * 0.7978845608f));
}

template <class T, class F>
void activate(const GatedActivationParams& p, const F& argument) {
  for_each_row(p.num_rows, p.width, [&](std::int64_t row) {
    const T* gate = static_cast<const T*>(p.gate_up) + row * p.gate_up_stride;
    T* out = static_cast<T*>(p.out) + row * p.out_stride;
    for_each_vec(p.width, [&](std::int64_t i, std::int64_t count) {
      const Vec x = load(gate + i, count);
      const Vec up = load(gate + p.width + i, count);
      store(out + i, x * sigmoid(argument(x)) * up, count);
    });
  });
}

}  // namespace

void gated_activation(const GatedActivationParams& p) {
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    switch (p.activation) {
      case Activation::kSilu:
        return activate<T>(p, [](const Vec& x) { return x; });
      case Activation::kGeluTanh:
        return activate<T>(p, gelu_argument);
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
