#pragma once

#include <cstdint>

#include "sampling/cuda/law.cuh"

// The search for the token with which the weights, added by falling keys, reach a limit: the rank
// of top_k, the mass of top_p. Nothing is sorted and nothing but a short list is stored; the row is
// read again for each narrowing of the bracket.
namespace specbranch {

inline constexpr int kPivots = 4;
inline constexpr int kMaxListed = 256;
static_assert(kMaxListed <= kRowThreads);

/// Keys in [low, high): the one that is sought and others.
struct Bracket {
  Key low, high;
  FixedWeight above;   // weight of the keys from high on
  std::int64_t count;  // of keys inside, or more

  __device__ bool contains(Key key) const { return low <= key && key < high; }
};

struct KeyList {
  Key keys[kMaxListed];
  FixedWeight weights[kMaxListed];
  std::uint32_t size;
};

/// What the threads of a block share while they search.
struct SearchMemory {
  struct Sum {
    FixedWeight weight;
    std::uint32_t count;
  };
  Sum of_warp[kRowWarps][kPivots];
  Sum from_low, from_high;  // from the chosen part's low end on, and from its high end on
  int chosen;
  KeyList list;
};

/// One for all searches of a kernel.
__device__ inline SearchMemory& search_memory() {
  SPECBRANCH_SHARED(memory, SearchMemory);
  return memory;
}

/// Where a bracket is cut into kPivots parts. Logits are spread more evenly than their keys, of
/// which half lie between -1 and 1; but extreme values, and a few neighbouring ones, are told apart
/// by keys.
struct Cuts {
  Key at[kPivots + 1];

  __device__ explicit Cuts(const Bracket& bracket) {
    const float low = value_of(bracket.low);
    const float width = value_of(bracket.high) - low;
    const Key num_values = (bracket.high - bracket.low) >> 32;
    const bool by_value = width < 0x1p10f && num_values >= 64;  // so that every cut lies inside
    const Key step = (bracket.high - bracket.low + kPivots - 1) / kPivots;
#pragma unroll
    for (int i = 0; i < kPivots; ++i) {
      const Key cut = by_value ? lowest_key(low + width * (static_cast<float>(i) / kPivots))
                               : bracket.low + i * step;
      at[i] = Largest{}(cut, bracket.low);
    }
    at[kPivots] = bracket.high;
  }

  __device__ void keep(int part, Bracket& bracket) const {
    const Key high = bracket.high;
#pragma unroll
    for (int i = 0; i < kPivots; ++i) {
      if (i != part) continue;
      bracket.low = at[i];
      bracket.high = Smallest{}(at[i + 1], high);
    }
  }
};

/// Cuts the bracket into kPivots parts and keeps the one in which the weights reach the limit.
/// False if they do not even at its low end.
template <class Visit>
__device__ bool narrow(const Visit& visit, FixedWeight limit, Bracket& bracket) {
  using Sum = SearchMemory::Sum;
  SearchMemory& memory = search_memory();
  const Cuts cuts(bracket);
  Sum sums[kPivots] = {};
  visit(bracket.low, [&](Key key, FixedWeight weight) {
    if (!bracket.contains(key)) return;
#pragma unroll
    for (int i = 0; i < kPivots; ++i) {
      if (key < cuts.at[i]) continue;
      sums[i].weight += weight;
      ++sums[i].count;
    }
  });
#pragma unroll
  for (int i = 0; i < kPivots; ++i) {
    const Sum sum{warp_reduce(sums[i].weight, Add{}), warp_reduce(sums[i].count, Add{})};
    if (lane_index() == 0) memory.of_warp[warp_index()][i] = sum;
  }
  __syncthreads();

  if (warp_index() == 0) {
    const int lane = lane_index();
    Sum sum{0, 0};
    for (int warp = 0; warp < kRowWarps && lane < kPivots; ++warp) {
      sum.weight += memory.of_warp[warp][lane].weight;
      sum.count += memory.of_warp[warp][lane].count;
    }
    const bool reached = lane < kPivots && bracket.above + sum.weight >= limit;
    const int last = __popc(__ballot_sync(kFullWarp, reached)) - 1;
    if (lane == 0) memory.chosen = last;
    if (lane == last) memory.from_low = sum;
    if (lane == last + 1) memory.from_high = sum;  // nothing, past the last part
  }
  __syncthreads();
  if (memory.chosen < 0) return false;
  cuts.keep(memory.chosen, bracket);
  bracket.above += memory.from_high.weight;
  bracket.count = std::int64_t{memory.from_low.count} - memory.from_high.count;
  return true;
}

/// Lists the keys of the bracket, at most kMaxListed, in any order; the list holds until the next
/// search. Whoever read an earlier list has met the others since, in the reduction that ends a
/// search.
template <class Visit>
__device__ const KeyList& list_keys(const Visit& visit, const Bracket& bracket) {
  KeyList& list = search_memory().list;
  if (threadIdx.x == 0) list.size = 0;
  __syncthreads();
  visit(bracket.low, [&](Key key, FixedWeight weight) {
    if (!bracket.contains(key)) return;
    const std::uint32_t slot = atomicAdd(&list.size, 1u);
    list.keys[slot] = key;
    list.weights[slot] = weight;
  });
  __syncthreads();
  return list;
}

/// Weight of the listed keys that are no lower than `key`.
__device__ inline FixedWeight listed_from(const KeyList& list, Key key) {
  FixedWeight weight = 0;
  for (std::uint32_t i = 0; i < list.size; ++i) weight += list.keys[i] >= key ? list.weights[i] : 0;
  return weight;
}

/// The highest key from which on the weights reach `limit`; 0 where all do not. The threads of the
/// block share the keys of the bracket: visit(low, f) calls f(key, weight) for those of this
/// thread, and need not for keys below `low`.
template <class Visit>
__device__ Key find_crossing(const Visit& visit, FixedWeight limit, Bracket bracket) {
  while (bracket.count > kMaxListed) {
    if (!narrow(visit, limit, bracket)) return 0;
  }
  const KeyList& list = list_keys(visit, bracket);
  Key crossing = 0;
  if (threadIdx.x < list.size) {
    const Key key = list.keys[threadIdx.x];
    if (bracket.above + listed_from(list, key) >= limit) crossing = key;
  }
  return block_reduce(crossing, Largest{});
}

}  // namespace specbranch
