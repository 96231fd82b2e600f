#include "kernels/cuda/cublas.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "kernels/cuda/failure.h"

namespace splitop::cuda {
namespace {

// ---- what is used of cuBLAS' C interface, whose headers need not be installed ----

using Handle = struct cublasContext*;
constexpr int kSuccess = 0;
constexpr int kNoTranspose = 0;
constexpr int kTranspose = 1;
constexpr int kPointerModeDevice = 1;
constexpr int kDefaultAlgorithm = -1;
constexpr int kFullPrecisionReductions = 16;  // sums of 16-bit products stay in float32

enum CudaType { kReal32 = 0, kReal64 = 1, kReal16 = 2, kBrain16 = 14 };
enum ComputeType { kCompute32 = 68, kCompute64 = 70, kCompute32FastTf32 = 77 };

struct Library {
  int (*create)(Handle*);
  int (*set_stream)(Handle, cudaStream_t);
  int (*set_workspace)(Handle, void*, size_t);
  int (*set_pointer_mode)(Handle, int);
  int (*set_math_mode)(Handle, int);
  int (*gemm)(Handle, int, int, int, int, int, const void*, const void*, int, int, const void*, int,
              int, const void*, void*, int, int, int, int);
};

// ---- finding it ----

// The one that the process uses already comes first: TensorFlow's.
void* open_library() {
  if (const char* path = std::getenv("SPLITOP_CUBLAS")) return dlopen(path, RTLD_NOW);
  constexpr const char* kNames[] = {"libcublas.so.12", "libcublas.so.13", "libcublas.so"};
  for (const int flags : {RTLD_NOW | RTLD_NOLOAD, RTLD_NOW}) {
    for (const char* name : kNames) {
      if (void* const library = dlopen(name, flags)) return library;
    }
  }
  return nullptr;
}

template <typename Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

// Opens the library and looks its functions up; NULL if that fails.
const Library* load_library() {
  void* const handle = open_library();
  if (handle == nullptr) return nullptr;
  Library functions;
  const bool complete = find(handle, "cublasCreate_v2", &functions.create) &&
                        find(handle, "cublasSetStream_v2", &functions.set_stream) &&
                        find(handle, "cublasSetWorkspace_v2", &functions.set_workspace) &&
                        find(handle, "cublasSetPointerMode_v2", &functions.set_pointer_mode) &&
                        find(handle, "cublasSetMathMode", &functions.set_math_mode) &&
                        find(handle, "cublasGemmEx", &functions.gemm);
  return complete ? new Library(functions) : nullptr;
}

// NULL if there is none yet: the framework may load one later. One that was found stays open, as
// its kernels may run until the process ends.
const Library* library() {
  static std::mutex mutex;
  static const Library* found = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (found == nullptr) found = load_library();
  return found;
}

// ---- one handle a device, used by one thread at a time ----

std::mutex& mutex() {
  static std::mutex instance;
  return instance;
}

// With the mutex held. Handles live as long as the process: at its end the driver may be gone
// before us.
splitop_status handle_of_current_device(Handle* handle) {
  static auto& handles = *new std::map<int, Handle>();
  if (library() == nullptr) return SPLITOP_UNSUPPORTED;
  int device;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return cuda_failed("asking for", "the current device", error);
  const auto known = handles.find(device);
  if (known != handles.end()) {
    *handle = known->second;
    return SPLITOP_OK;
  }
  int status = library()->create(handle);
  if (status == kSuccess) status = library()->set_pointer_mode(*handle, kPointerModeDevice);
  if (status == kSuccess) status = library()->set_math_mode(*handle, kFullPrecisionReductions);
  if (status != kSuccess) return cublas_failed("creating a handle", status);
  handles[device] = *handle;
  return SPLITOP_OK;
}

CudaType type_of(splitop_dtype dtype) {
  switch (dtype) {
    case SPLITOP_FLOAT64:
      return kReal64;
    case SPLITOP_BFLOAT16:
      return kBrain16;
    case SPLITOP_FLOAT16:
      return kReal16;
    default:
      return kReal32;
  }
}

ComputeType compute_type(const CublasProduct& product) {
  if (product.factor_dtype == SPLITOP_FLOAT64) return kCompute64;
  return product.factor_dtype == SPLITOP_FLOAT32 && product.tf32 ? kCompute32FastTf32 : kCompute32;
}

int operation(Factor factor) { return factor == Factor::kTransposed ? kTranspose : kNoTranspose; }

}  // namespace

bool cublas_found() { return library() != nullptr; }

splitop_status cublas_prepare() {
  const std::lock_guard<std::mutex> lock(mutex());
  Handle handle;
  return handle_of_current_device(&handle);
}

// cuBLAS is column-major: it computes the transpose, C^T = op(B)^T op(A)^T.
splitop_status cublas_multiply(const CublasProduct& p, void* workspace, const Queue& queue) {
  if (queue.loads_only) return cublas_prepare();
  const std::lock_guard<std::mutex> lock(mutex());
  Handle handle;
  const splitop_status status = handle_of_current_device(&handle);
  if (status != SPLITOP_OK) return status;
  const CudaType factors = type_of(p.factor_dtype);
  // Setting the stream forgets the workspace.
  int done = library()->set_stream(handle, queue.stream);
  if (done == kSuccess) {
    done = library()->set_workspace(handle, workspace, kCublasWorkspaceBytes);
  }
  if (done == kSuccess) {
    done = library()->gemm(handle, operation(p.op_b), operation(p.op_a), static_cast<int>(p.n),
                           static_cast<int>(p.m), static_cast<int>(p.k), p.alpha, p.b, factors,
                           static_cast<int>(p.pitch_b), p.a, factors, static_cast<int>(p.pitch_a),
                           p.beta, p.c, type_of(p.result_dtype), static_cast<int>(p.pitch_c),
                           compute_type(p), kDefaultAlgorithm);
  }
  return done == kSuccess ? SPLITOP_OK : cublas_failed("multiplying", done);
}

}  // namespace splitop::cuda
