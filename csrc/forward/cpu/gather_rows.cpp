#include <cstdint>

#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {

void gather_rows(const GatherRowsParams& p) {
  dispatch_dtype(p.table_dtype, [&]<class Table>(Table) {
    dispatch_dtype(p.dtype, [&]<class T>(T) {
      const Vec scale(p.scale);
      for_each_row(p.num_rows, p.width, [&](std::int64_t row) {
        const Table* from = static_cast<const Table*>(p.table) + p.ids[row] * p.width;
        T* to = static_cast<T*>(p.out) + row * p.width;
        for_each_vec(p.width, [&](std::int64_t i, std::int64_t count) {
          store(to + i, load(from + i, count) * scale, count);
        });
      });
    });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
