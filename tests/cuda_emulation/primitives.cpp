// Shuffles, asynchronous copies and tensor cores. The layouts are those of the PTX ISA: "Matrix
// Fragments for mma.m16n8k8", "... mma.m16n8k16", and "ldmatrix".
#include "emulated_primitives.h"

#include <stdint.h>
#include <string.h>

#include "block.h"
#include "floats.h"

namespace splitop::emulation {
namespace {

// ---- shuffles ----

struct Exchange {
  uint64_t value;
  int source;
  uint64_t result;
};

void run_exchange(LaneArguments arguments, uint32_t lanes) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    Exchange& mine = *static_cast<Exchange*>(arguments[lane]);
    const bool there = lanes >> mine.source & 1;
    // From a lane that takes no part: undefined; NaN shows it.
    mine.result = there ? static_cast<Exchange*>(arguments[mine.source])->value : ~uint64_t{0};
  }
}

constexpr WarpOperation kExchange = {"a shuffle", false, run_exchange};
constexpr WarpOperation kSyncWarp = {"__syncwarp", false, [](LaneArguments, uint32_t) {}};

// ---- ldmatrix ----

constexpr int kMatrixRows = 8;
constexpr int kRowBytes = 16;

struct MatrixLoad {
  uint32_t* registers;
  const void* row;
};

// Element [row][column] of the 8x8 matrix whose rows the lanes from 8 * matrix on point to.
uint16_t matrix_element(LaneArguments arguments, int matrix, int row, int column) {
  const int lane = matrix * kMatrixRows + row;
  uint16_t elements[kRowBytes / sizeof(uint16_t)];
  memcpy(elements, static_cast<const MatrixLoad*>(arguments[lane])->row, kRowBytes);
  return elements[column];
}

template <bool kTransposed>
void run_load_matrix(LaneArguments arguments, uint32_t) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const int row = lane / 4;
    const int column = lane % 4 * 2;
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint32_t low, high;
      if (kTransposed) {
        low = matrix_element(arguments, matrix, column, row);
        high = matrix_element(arguments, matrix, column + 1, row);
      } else {
        low = matrix_element(arguments, matrix, row, column);
        high = matrix_element(arguments, matrix, row, column + 1);
      }
      static_cast<const MatrixLoad*>(arguments[lane])->registers[matrix] = high << 16 | low;
    }
  }
}

constexpr WarpOperation kLoadMatrix = {"load_matrix_x4", true, run_load_matrix<false>};
constexpr WarpOperation kLoadMatrixTrans = {"load_matrix_x4_trans", true, run_load_matrix<true>};

void load_matrix(const WarpOperation& operation, uint32_t* registers, const void* row) {
  check_shared(operation.name, row, kRowBytes, kRowBytes);
  MatrixLoad load = {registers, row};
  meet(operation, kAllLanes, &load);
}

// ---- mma ----

// An element type: how many of them a register holds, and the value of one.
struct Tf32 {
  static constexpr int kPerRegister = 1;
  static float value(uint32_t bits, int) { return tf32_to_float(bits); }
};
struct Bfloat16 {
  static constexpr int kPerRegister = 2;
  static float value(uint32_t bits, int i) {
    return bfloat16_to_float(static_cast<uint16_t>(bits >> 16 * i));
  }
};
struct Float16 {
  static constexpr int kPerRegister = 2;
  static float value(uint32_t bits, int i) {
    return float16_to_float(static_cast<uint16_t>(bits >> 16 * i));
  }
};

struct Mma {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

template <typename Element>
void run_mma(LaneArguments arguments, uint32_t) {
  constexpr int kPer = Element::kPerRegister;
  constexpr int kDepth = 8 * kPer;
  float a[16][kDepth], b[kDepth][8], c[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const Mma& mma = *static_cast<const Mma*>(arguments[lane]);
    const int group = lane / 4;
    const int member = lane % 4;
    for (int i = 0; i < kPer; ++i) {
      for (int r = 0; r < 4; ++r) {
        const int k = kPer * (member + r / 2 * 4) + i;
        a[group + r % 2 * 8][k] = Element::value(mma.a[r], i);
      }
      for (int r = 0; r < 2; ++r) {
        const int k = kPer * (member + r * 4) + i;
        b[k][group] = Element::value(mma.b[r], i);
      }
    }
    for (int r = 0; r < 4; ++r) c[group + r / 2 * 8][member * 2 + r % 2] = mma.c[r];
  }
  // The products are exact in float32; the hardware adds them with other roundings than these.
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* const result = static_cast<const Mma*>(arguments[lane])->c;
    for (int r = 0; r < 4; ++r) result[r] = c[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
  }
}

constexpr WarpOperation kMmaTf32 = {"mma_tf32", true, run_mma<Tf32>};
constexpr WarpOperation kMmaBf16 = {"mma_bf16", true, run_mma<Bfloat16>};
constexpr WarpOperation kMmaF16 = {"mma_f16", true, run_mma<Float16>};

void multiply(const WarpOperation& operation, float* c, const uint32_t* a, const uint32_t* b) {
  Mma mma = {c, a, b};
  meet(operation, kAllLanes, &mma);
}

}  // namespace

uint64_t exchange(unsigned int mask, uint64_t value, int source) {
  Exchange exchange = {value, source, 0};
  meet(kExchange, mask, &exchange);
  return exchange.result;
}

void copy_async_wait(int pending) { async_copies().wait(pending); }

}  // namespace splitop::emulation

namespace splitop {

void copy_async(void* shared, const void* global, bool valid) {
  using namespace emulation;
  check_shared("copy_async", shared, AsyncCopies::kBytes, AsyncCopies::kBytes);
  if (valid) check_alignment("copy_async", global, AsyncCopies::kBytes);
  async_copies().issue(shared, global, valid);
}

void copy_async_commit() { emulation::async_copies().commit(); }

void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  emulation::load_matrix(emulation::kLoadMatrix, r, row);
}
void load_matrix_x4_trans(uint32_t (&r)[4], const void* row) {
  emulation::load_matrix(emulation::kLoadMatrixTrans, r, row);
}

uint32_t to_tf32(float x) { return emulation::float_to_tf32(x); }

void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::multiply(emulation::kMmaTf32, c, a, b);
}
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::multiply(emulation::kMmaBf16, c, a, b);
}
void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::multiply(emulation::kMmaF16, c, a, b);
}

float half_to_float(uint16_t bits) { return emulation::float16_to_float(bits); }
uint16_t float_to_half(float x) { return emulation::float_to_float16(x); }
uint16_t float_to_bfloat16(float x) { return emulation::float_to_bfloat16(x); }

}  // namespace splitop

void __syncwarp(unsigned int mask) {
  splitop::emulation::meet(splitop::emulation::kSyncWarp, mask, nullptr);
}
