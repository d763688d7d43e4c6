#include "tensor_core.hpp"

#include <cstring>

#include "collectives.hpp"
#include "cuda/float16.hpp"
#include "memory.hpp"

namespace simt {
namespace {

constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kRowBytes = 16;

struct Load {
  const void* row;
  std::uint32_t* registers;
};

/// The element pair of each lane: row lane / 4, columns 2 (lane % 4) and the next; transposed, the
/// same of the transposed matrix.
template <bool kTransposed>
std::uint16_t element(void* const* loads, int matrix, int lane, int half) {
  const int row = kTransposed ? 2 * (lane % 4) + half : lane / 4;
  const int column = kTransposed ? lane / 4 : 2 * (lane % 4) + half;
  std::uint16_t value;
  const auto* from =
      static_cast<const char*>(static_cast<const Load*>(loads[8 * matrix + row])->row);
  std::memcpy(&value, from + 2 * column, sizeof value);
  return value;
}

template <bool kTransposed>
void combine_loads(void* const* loads) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    auto* registers = static_cast<const Load*>(loads[lane])->registers;
    for (int matrix = 0; matrix < 4; ++matrix) {
      const std::uint32_t low = element<kTransposed>(loads, matrix, lane, 0);
      const std::uint32_t high = element<kTransposed>(loads, matrix, lane, 1);
      registers[matrix] = low | high << 16;
    }
  }
}

struct Multiply {
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

template <class T>
float element(std::uint32_t pair, int half) {
  return static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair >> (16 * half))));
}

/// In fragments, `group` = lane / 4 is a row of A and D and a column of B; `member` = lane % 4
/// holds pairs 2 member and 2 member + 8 along k, and columns 2 member and the next of D.
template <class T>
void combine_multiplies(void* const* lanes) {
  float a[16][16];
  float b[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto& mine = *static_cast<const Multiply*>(lanes[lane]);
    const int group = lane / 4;
    const int member = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const int k = 2 * member + half;
      a[group][k] = element<T>(mine.a[0], half);
      a[group + 8][k] = element<T>(mine.a[1], half);
      a[group][k + 8] = element<T>(mine.a[2], half);
      a[group + 8][k + 8] = element<T>(mine.a[3], half);
      b[k][group] = element<T>(mine.b[0], half);
      b[k + 8][group] = element<T>(mine.b[1], half);
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* d = static_cast<const Multiply*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2);
      const int column = 2 * (lane % 4) + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      d[i] += sum;
    }
  }
}

}  // namespace

void load_matrices(std::uint32_t* registers, bool transposed, const void* row,
                   const Location& where, const void* pc) {
  on_access(row, kRowBytes, false, pc);
  Load mine{row, registers};
  collective(kFullMask, transposed ? combine_loads<true> : combine_loads<false>, &mine, where);
}

void multiply_fp16(float* d, const std::uint32_t* a, const std::uint32_t* b,
                   const Location& where) {
  Multiply mine{d, a, b};
  collective(kFullMask, combine_multiplies<__half>, &mine, where);
}

void multiply_bf16(float* d, const std::uint32_t* a, const std::uint32_t* b,
                   const Location& where) {
  Multiply mine{d, a, b};
  collective(kFullMask, combine_multiplies<__nv_bfloat16>, &mine, where);
}

}  // namespace simt
