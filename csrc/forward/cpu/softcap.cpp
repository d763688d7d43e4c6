#include <cstdint>

#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {

void softcap(const SoftcapParams& p) {
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    T* x = static_cast<T*>(p.x);
    const Vec cap(p.cap);
    constexpr std::int64_t kRun = 1 << 10;
    for_each_row((p.size + kRun - 1) / kRun, kRun, [&](std::int64_t run) {
      const std::int64_t begin = run * kRun;
      for_each_vec(std::min(kRun, p.size - begin), [&](std::int64_t i, std::int64_t count) {
        T* at = x + begin + i;
        store(at, (load(at, count) / cap).tanh() * cap, count);
      });
    });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
