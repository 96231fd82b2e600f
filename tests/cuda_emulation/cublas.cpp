// A library with cuBLAS' C interface, as far as splitop uses it, that computes on the CPU. Stricter
// than cuBLAS: alpha and beta have to be passed as device memory, and a workspace has to be set,
// for splitop must neither read the hyperparameters on the host nor let cuBLAS allocate.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#include "floats.h"

namespace {

using namespace splitop::emulation;

enum Status { kSuccess = 0, kNotInitialized = 1, kInvalidValue = 7, kNotSupported = 15 };
enum Operation { kNoTranspose = 0, kTranspose = 1, kConjugateTranspose = 2 };
enum PointerMode { kHostPointers = 0, kDevicePointers = 1 };
enum DataType { kReal32 = 0, kReal64 = 1, kReal16 = 2, kBrain16 = 14 };
enum ComputeType { kCompute32 = 68, kCompute64 = 70, kCompute32FastTf32 = 77 };

constexpr size_t kWorkspaceAlignment = 256;

struct Handle {
  int pointer_mode = kHostPointers;
  bool has_workspace = false;
};

int refuse(Status status, const char* why) {
  fprintf(stderr, "cuBLAS emulation: %s\n", why);
  return status;
}

struct Gemm {
  int transpose_a, transpose_b, m, n, k;
  const void* alpha;
  const void* a;
  int type_a, pitch_a;
  const void* b;
  int type_b, pitch_b;
  const void* beta;
  void* c;
  int type_c, pitch_c, compute;
};

double read(const void* from, int type, size_t i) {
  switch (type) {
    case kReal64:
      return static_cast<const double*>(from)[i];
    case kReal32:
      return static_cast<const float*>(from)[i];
    case kReal16:
      return float16_to_float(static_cast<const uint16_t*>(from)[i]);
    default:
      return bfloat16_to_float(static_cast<const uint16_t*>(from)[i]);
  }
}

void write(void* to, int type, size_t i, double value) {
  switch (type) {
    case kReal64:
      static_cast<double*>(to)[i] = value;
      break;
    case kReal32:
      static_cast<float*>(to)[i] = static_cast<float>(value);
      break;
    case kReal16:
      static_cast<uint16_t*>(to)[i] = float_to_float16(static_cast<float>(value));
      break;
    default:
      static_cast<uint16_t*>(to)[i] = float_to_bfloat16(static_cast<float>(value));
  }
}

// The factor as the multiplier reads it.
template <typename Sum>
Sum read_factor(const Gemm& gemm, const void* from, int type, size_t i) {
  const double value = read(from, type, i);
  if (gemm.compute != kCompute32FastTf32) return static_cast<Sum>(value);
  return tf32_to_float(float_to_tf32(static_cast<float>(value)));
}

// Column-major: element (i, j) of a matrix is at i + j * pitch.
template <typename Sum>
void multiply(const Gemm& g) {
  const Sum alpha = *static_cast<const Sum*>(g.alpha);
  const Sum beta = *static_cast<const Sum*>(g.beta);
  const size_t m = g.m, k = g.k;
  std::vector<Sum> a(m * k);  // op(A), column-major and dense
  for (size_t p = 0; p < k; ++p) {
    for (size_t i = 0; i < m; ++i) {
      const size_t at = g.transpose_a ? p + i * g.pitch_a : i + p * g.pitch_a;
      a[i + p * m] = read_factor<Sum>(g, g.a, g.type_a, at);
    }
  }
  std::vector<Sum> sums(m);
  for (size_t j = 0; j < static_cast<size_t>(g.n); ++j) {
    std::fill(sums.begin(), sums.end(), Sum(0));
    for (size_t p = 0; p < k; ++p) {
      const size_t at = g.transpose_b ? j + p * g.pitch_b : p + j * g.pitch_b;
      const Sum b = read_factor<Sum>(g, g.b, g.type_b, at);
      for (size_t i = 0; i < m; ++i) sums[i] += a[i + p * m] * b;
    }
    for (size_t i = 0; i < m; ++i) {
      const size_t at = i + j * g.pitch_c;
      Sum result = alpha * sums[i];
      if (beta != 0) result += beta * static_cast<Sum>(read(g.c, g.type_c, at));  // else not read
      write(g.c, g.type_c, at, static_cast<double>(result));
    }
  }
}

bool types_supported(const Gemm& g) {
  if (g.type_a != g.type_b) return false;
  switch (g.compute) {
    case kCompute64:
      return g.type_a == kReal64 && g.type_c == kReal64;
    case kCompute32FastTf32:
      return g.type_a == kReal32 && g.type_c == kReal32;
    case kCompute32:
      if (g.type_a == kReal32) return g.type_c == kReal32;
      return (g.type_a == kReal16 || g.type_a == kBrain16) &&
             (g.type_c == g.type_a || g.type_c == kReal32);
    default:
      return false;
  }
}

bool shapes_valid(const Gemm& g) {
  if (g.m < 0 || g.n < 0 || g.k < 0) return false;
  if (g.transpose_a > kConjugateTranspose || g.transpose_b > kConjugateTranspose) return false;
  return g.pitch_a >= std::max(1, g.transpose_a ? g.k : g.m) &&
         g.pitch_b >= std::max(1, g.transpose_b ? g.n : g.k) && g.pitch_c >= std::max(1, g.m);
}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

int cublasCreate_v2(void** handle) {
  if (const char* status = getenv("SPLITOP_EMULATED_CUBLAS_STATUS")) return atoi(status);
  *handle = new Handle;
  return kSuccess;
}

int cublasDestroy_v2(void* handle) {
  delete static_cast<Handle*>(handle);
  return kSuccess;
}

// Goes back to cuBLAS' own workspace, as the real one does.
int cublasSetStream_v2(void* handle, void*) {
  if (!handle) return kNotInitialized;
  static_cast<Handle*>(handle)->has_workspace = false;
  return kSuccess;
}

int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  if (!handle) return kNotInitialized;
  if (reinterpret_cast<uintptr_t>(workspace) % kWorkspaceAlignment != 0) {
    return refuse(kInvalidValue, "the workspace is not aligned to 256 bytes");
  }
  static_cast<Handle*>(handle)->has_workspace = workspace != nullptr && bytes > 0;
  return kSuccess;
}

int cublasSetPointerMode_v2(void* handle, int mode) {
  if (!handle) return kNotInitialized;
  static_cast<Handle*>(handle)->pointer_mode = mode;
  return kSuccess;
}

int cublasSetMathMode(void* handle, int) { return handle ? kSuccess : kNotInitialized; }

int cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                 const void* alpha, const void* a, int type_a, int pitch_a, const void* b,
                 int type_b, int pitch_b, const void* beta, void* c, int type_c, int pitch_c,
                 int compute, int) {
  if (!handle) return kNotInitialized;
  const Gemm gemm = {transpose_a, transpose_b, m,       n,    k, alpha,  a,       type_a, pitch_a,
                     b,           type_b,      pitch_b, beta, c, type_c, pitch_c, compute};
  if (static_cast<Handle*>(handle)->pointer_mode != kDevicePointers) {
    return refuse(kInvalidValue, "alpha and beta are not passed as device memory");
  }
  if (!static_cast<Handle*>(handle)->has_workspace) {
    return refuse(kInvalidValue, "no workspace since the stream was set");
  }
  if (!shapes_valid(gemm)) return refuse(kInvalidValue, "an impossible shape, or a short pitch");
  if (!types_supported(gemm)) return refuse(kNotSupported, "a combination of types");
  if (compute == kCompute64) {
    multiply<double>(gemm);
  } else {
    multiply<float>(gemm);
  }
  return kSuccess;
}

}  // extern "C"

#pragma GCC visibility pop
