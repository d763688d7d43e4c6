#include <cstdint>

#include "attention/params.h"
#include "common/cpu/kernels.h"
#include "common/cpu/vec.h"
#include "forward/cpu/rms_norm.h"
#include "forward/cpu/rows.h"
#include "forward/params.h"
#include "kv_cache/cpu/append_row.h"

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

/// Heads of one row, so many elements apart.
template <class T>
struct Heads {
  T* data;
  std::int64_t stride;
};

template <class T>
void rotate_heads(const RopeAppendKvParams& p, const RmsNorm& norm, std::int64_t position,
                  std::int64_t num_heads, const Heads<const T>& from, const Heads<T>& to) {
  const std::int64_t head_dim = p.append.head_dim;
  for (std::int64_t h = 0; h < num_heads; ++h) {
    alignas(64) float head[kMaxHeadDim];
    load_head(from.data + h * from.stride, head, head_dim);
    if (norm.weight != nullptr) rms_norm_row<T>(norm, head, head, head_dim);
    rotate(p.rope, position, head);
    store_head(head, to.data + h * to.stride, head_dim);
  }
}

template <class T>
void rope_append_row(const RopeAppendKvParams& p, std::int64_t row) {
  const AppendKvParams& append = p.append;
  const CachePlace place(append, row);
  const std::int64_t position = p.position_ids[row];
  T* q = static_cast<T*>(p.q) + row * p.q_strides.row;
  rotate_heads<T>(p, p.q_norm, position, p.num_qo_heads, {q, p.q_strides.head},
                  {q, p.q_strides.head});
  const T* k = static_cast<const T*>(append.k) + row * append.k_strides.row;
  T* cached = static_cast<T*>(append.k_cache) +
              append.block_table.offset(place.b, place.position, append.k_cache_strides);
  rotate_heads<T>(p, p.k_norm, position, append.num_kv_heads, {k, append.k_strides.head},
                  {cached, append.k_cache_strides.head});
  append_row(append, place, row, values_of(append));
}

}  // namespace

void rope_append_kv(const RopeAppendKvParams& p) {
  const AppendKvParams& append = p.append;
  const std::int64_t width = (p.num_qo_heads + 2 * append.num_kv_heads) * append.head_dim;
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    for_each_row(append.row_indptr[append.batch_size], width,
                 [&](std::int64_t row) { rope_append_row<T>(p, row); });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
