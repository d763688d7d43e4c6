// What threads do together: barriers, shuffles, votes, matrices.

#include "collectives.hpp"

#include "instruction.hpp"
#include "machine.hpp"
#include "tensor_core.hpp"

namespace simt::ptx {
namespace {

using u32 = std::uint32_t;

int arrive(Frame& frame, const Instruction& i, int id, int predicate) {
  if (frame.get<u32>(i.slots[id]) != 0) fail("a barrier other than 0, at " + text(i.where));
  return barrier(predicate, i.where);
}

void block_barrier(Frame& frame, const Instruction& i) { arrive(frame, i, 0, 0); }

template <class F>
void block_vote(Frame& frame, const Instruction& i) {
  const int votes = arrive(frame, i, 1, frame.get<bool>(i.slots[2]));
  frame.set(i.slots[0], F{}(votes));
}

void warp_barrier(Frame& frame, const Instruction& i) {
  sync_warp(frame.get<u32>(i.slots[0]), i.where);
}

template <class F>
void warp_vote(Frame& frame, const Instruction& i) {
  const u32 mask = frame.get<u32>(i.slots[2]);
  frame.set(i.slots[0], F{}(ballot(mask, frame.get<bool>(i.slots[1]), i.where), mask));
}

/// From how many threads voted for it.
template <class F>
Meaning vote_of_block(F /*f*/) {
  return {block_vote<F>, 3};
}

/// From the lanes that voted for it and the lanes that voted.
template <class F>
Meaning vote_of_warp(F /*f*/) {
  return {warp_vote<F>, 3};
}

/// Where in its segment of the warp a lane looks, and whether that is inside.
struct Source {
  int lane;
  bool inside;
};

using FindSource = Source (*)(int lane, int operand, int segment, int last);

/// d|p, a, b, c, mask: the low bits of c end the segment, the bits from 8 on say where it starts.
template <FindSource kFind>
void warp_shuffle(Frame& frame, const Instruction& i) {
  const int lane = lane_id();
  const int clamp = frame.get<int>(i.slots[4]) & 31;
  const int segment = frame.get<int>(i.slots[4]) >> 8 & 31;
  const int last = (lane & segment) | (clamp & ~segment);
  const Source source = kFind(lane, frame.get<int>(i.slots[3]) & 31, segment, last);
  u32 value = frame.get<u32>(i.slots[2]);
  const u32 mask = frame.get<u32>(i.slots[5]);
  shuffle(mask, &value, sizeof value, source.inside ? source.lane : lane, i.where);
  frame.set(i.slots[0], value);
  frame.set(i.slots[1], source.inside);
}

Source up(int lane, int distance, int /*segment*/, int last) {
  return {lane - distance, lane - distance >= last};
}
Source down(int lane, int distance, int /*segment*/, int last) {
  return {lane + distance, lane + distance <= last};
}
Source butterfly(int lane, int bits, int /*segment*/, int last) {
  return {lane ^ bits, (lane ^ bits) <= last};
}
Source indexed(int lane, int index, int segment, int last) {
  const int source = (lane & segment) | (index & ~segment);
  return {source, source <= last};
}

template <Reduction kReduction>
void warp_reduce(Frame& frame, const Instruction& i) {
  frame.set(i.slots[0],
            reduce(frame.get<u32>(i.slots[2]), frame.get<u32>(i.slots[1]), kReduction, i.where));
}

template <bool kTransposed>
void load_matrix(Frame& frame, const Instruction& i) {
  u32 registers[4];
  const std::uintptr_t row = frame.slots[i.slots[4]] + frame.slots[i.slots[5]];
  load_matrices(registers, kTransposed, reinterpret_cast<const void*>(row), i.where, &i);
  for (int n = 0; n < 4; ++n) frame.set(i.slots[n], registers[n]);
}

/// d[4], a[4], b[2], c[4]
template <auto kMultiply>
void multiply(Frame& frame, const Instruction& i) {
  u32 a[4];
  u32 b[2];
  float d[4];
  for (int n = 0; n < 4; ++n) a[n] = frame.get<u32>(i.slots[4 + n]);
  for (int n = 0; n < 2; ++n) b[n] = frame.get<u32>(i.slots[8 + n]);
  for (int n = 0; n < 4; ++n) d[n] = frame.get<float>(i.slots[10 + n]);
  kMultiply(d, a, b, i.where);
  for (int n = 0; n < 4; ++n) frame.set(i.slots[n], d[n]);
}

}  // namespace

void add_collectives(Meanings& all) {
  all["bar.sync"] = all["barrier.sync"] = {block_barrier, 1};
  all["bar.red.popc.u32"] = vote_of_block([](int votes) { return static_cast<u32>(votes); });
  all["bar.red.or.pred"] = vote_of_block([](int votes) { return votes > 0; });
  all["bar.warp.sync"] = {warp_barrier, 1};
  all["vote.sync.ballot.b32"] = vote_of_warp([](u32 votes, u32) { return votes; });
  all["vote.sync.any.pred"] = vote_of_warp([](u32 votes, u32) { return votes != 0; });
  all["vote.sync.all.pred"] = vote_of_warp([](u32 votes, u32 mask) { return votes == mask; });
  all["shfl.sync.up.b32"] = {warp_shuffle<up>, 6};
  all["shfl.sync.down.b32"] = {warp_shuffle<down>, 6};
  all["shfl.sync.bfly.b32"] = {warp_shuffle<butterfly>, 6};
  all["shfl.sync.idx.b32"] = {warp_shuffle<indexed>, 6};
  all["redux.sync.add.u32"] = all["redux.sync.add.s32"] = {warp_reduce<Reduction::kAdd>, 3};
  all["redux.sync.max.u32"] = {warp_reduce<Reduction::kMax>, 3};
  all["redux.sync.min.u32"] = {warp_reduce<Reduction::kMin>, 3};
  all["ldmatrix.sync.m8n8.x4.shared.b16"] = {load_matrix<false>, 6};
  all["ldmatrix.sync.m8n8.x4.trans.shared.b16"] = {load_matrix<true>, 6};
  const std::string mma = "mma.sync.m16n8k16.row.col.f32.";
  all[mma + "f16.f16.f32"] = {multiply<multiply_fp16>, 14};
  all[mma + "bf16.bf16.f32"] = {multiply<multiply_bf16>, 14};
}

}  // namespace simt::ptx
