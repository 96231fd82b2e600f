// Result codes of every splitop C function.
#ifndef SPLITOP_STATUS_H_
#define SPLITOP_STATUS_H_

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum splitop_status {
  SPLITOP_OK = 0,
  SPLITOP_INVALID_ARGUMENT = 1,  // a null pointer, a negative size, an unknown enumerator
  SPLITOP_UNSUPPORTED = 2,       // valid, but this build or this machine can't do it
  SPLITOP_DEVICE_ERROR = 3       // CUDA or cuBLAS has failed: splitop_cuda_failure (cuda.h)
} splitop_status;

// A static, English, lower-case description; never NULL.
SPLITOP_API const char* splitop_status_message(splitop_status status);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_STATUS_H_
