// CUDA: whether it can be used here, and what every CUDA function takes.
//
// A CUDA function works on the calling thread's current device. Its pointers are to that device's
// memory, the hyperparameters too, so that a captured graph sees this step's values. It only
// enqueues work on the stream given: it does not allocate, synchronise or use the default stream.
#ifndef SPLITOP_CUDA_H_
#define SPLITOP_CUDA_H_

#include <stdint.h>

#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st* splitop_cuda_stream;  // the same as cudaStream_t and CUstream

typedef enum splitop_cuda_state {
  SPLITOP_CUDA_READY = 0,
  SPLITOP_CUDA_NOT_BUILT = 1,   // this library was built without CUDA
  SPLITOP_CUDA_NO_DRIVER = 2,   // no NVIDIA driver on this machine
  SPLITOP_CUDA_OLD_DRIVER = 3,  // the driver is older than the CUDA this library was built with
  SPLITOP_CUDA_NO_DEVICE = 4,   // a driver, but no GPU (or none visible)
  SPLITOP_CUDA_OLD_DEVICE = 5,  // every GPU has a compute capability below 8.0
  SPLITOP_CUDA_BROKEN = 6,      // the driver reports another error
  SPLITOP_NUM_CUDA_STATES = 7
} splitop_cuda_state;

// Whether this process can run the CUDA functions. Starts the driver; no context is made.
SPLITOP_API splitop_cuda_state splitop_cuda_query(void);

// A static, English, lower-case description; never NULL.
SPLITOP_API const char* splitop_cuda_state_message(splitop_cuda_state state);

// 1000 * major + 10 * minor, as CUDA counts; 0 where there is none.
SPLITOP_API int32_t splitop_cuda_built_version(void);   // of the CUDA toolkit of the build
SPLITOP_API int32_t splitop_cuda_driver_version(void);  // the newest CUDA the driver can run

SPLITOP_API int32_t splitop_cuda_num_devices(void);

// What the choice of a strategy depends on.
typedef struct splitop_cuda_device {
  char name[256];
  int32_t compute_capability;  // 10 * major + minor: 80, 90
  int32_t num_sms;
  int64_t l2_bytes;
  int64_t clock_hz;          // peak
  int64_t memory_bandwidth;  // bytes a second, from the memory's clock and bus width
} splitop_cuda_device;

// SPLITOP_UNSUPPORTED if there is no such device or no CUDA.
SPLITOP_API splitop_status splitop_cuda_get_device(int32_t device, splitop_cuda_device* info);

// How the gradient of a kernel meets its update (docs/gpu.md).
typedef enum splitop_cuda_strategy {
  SPLITOP_CUDA_AUTO = 0,        // the one that is expected to be the fastest
  SPLITOP_CUDA_TILES = 1,       // tiles of the gradient, updated in the kernel that made them
  SPLITOP_CUDA_CHUNKS = 2,      // chunks of the gradient that stay in the L2 cache; needs cuBLAS
  SPLITOP_CUDA_ACCUMULATE = 3,  // one product that adds to the kernel; cuBLAS, sgd only
  SPLITOP_NUM_CUDA_STRATEGIES = 4
} splitop_cuda_strategy;

// "auto", "tiles", "chunks" or "accumulate"; NULL for an unknown one.
SPLITOP_API const char* splitop_cuda_strategy_name(splitop_cuda_strategy strategy);

typedef struct splitop_cuda_options {
  int32_t allow_tf32;              // [in] nonzero: float32 products may round their factors to TF32
  int32_t use_cublas;              // [in] nonzero: cuBLAS may be used where it is found
  splitop_cuda_strategy strategy;  // [in] SPLITOP_UNSUPPORTED where the one asked for can't be
} splitop_cuda_options;

// Whether cuBLAS was found (the process has it loaded, or the loader finds it).
SPLITOP_API int32_t splitop_cuda_has_cublas(void);

// Loads every kernel into the current device and creates the cuBLAS handle, which can't be done
// while a graph is captured. Optional: else done when first needed. Not among it: the kernels of
// cuBLAS, which loads one when it first takes it.
SPLITOP_API splitop_status splitop_cuda_warm_up(void);

// What the last SPLITOP_DEVICE_ERROR of this thread was about, and whether variables may have
// changed; "" if there was none. Never NULL; valid until the thread's next call.
SPLITOP_API const char* splitop_cuda_failure(void);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_CUDA_H_
