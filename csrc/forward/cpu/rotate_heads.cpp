#include <cstdint>

#include "attention/params.h"
#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rms_norm.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

void rotate(const Rope& rope, std::int64_t position, float* head) {
  const std::int64_t half = rope.dim / 2;
  const float* cos = rope.cos + position * half;
  const float* sin = rope.sin + position * half;
  for_each_vec(half, [&](std::int64_t i, std::int64_t count) {
    const Vec c = load(cos + i, count), s = load(sin + i, count);
    const Vec low = load(head + i, count), high = load(head + half + i, count);
    store(head + i, low * c - high * s, count);
    store(head + half + i, high * c + low * s, count);
  });
}

template <class T>
void load_head(const T* data, float* head, std::int64_t width) {
  for_each_vec(width, [&](std::int64_t i, std::int64_t count) {
    store(head + i, load(data + i, count), count);
  });
}

template <class T>
void store_head(const float* head, T* data, std::int64_t width) {
  for_each_vec(width, [&](std::int64_t i, std::int64_t count) {
    store(data + i, load(head + i, count), count);
  });
}

}  // namespace

void rotate_heads(const RotateHeadsParams& p) {
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    for_each_row(p.num_rows, p.num_heads * p.head_dim, [&](std::int64_t row) {
      for (std::int64_t h = 0; h < p.num_heads; ++h) {
        T* data = static_cast<T*>(p.heads) + row * p.row_stride + h * p.head_dim;
        alignas(64) float head[kMaxHeadDim];
        load_head(data, head, p.head_dim);
        if (p.norm.weight != nullptr) rms_norm_row<T>(p.norm, head, head, p.head_dim);
        rotate(p.rope, p.position_ids[row], head);
        store_head(head, data, p.head_dim);
      }
    });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
