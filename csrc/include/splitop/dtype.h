// Element types of tensors and variables.
#ifndef SPLITOP_DTYPE_H_
#define SPLITOP_DTYPE_H_

#include <stddef.h>

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum splitop_dtype {
  SPLITOP_FLOAT32 = 0,
  SPLITOP_FLOAT64 = 1,
  SPLITOP_BFLOAT16 = 2,  // activations and gradients only; variables are float32 then
  SPLITOP_FLOAT16 = 3,   // likewise
  SPLITOP_NUM_DTYPES = 4
} splitop_dtype;

// "float32", "float64", "bfloat16" or "float16"; NULL for an unknown one.
SPLITOP_API const char* splitop_dtype_name(splitop_dtype dtype);

// Bytes of an element; 0 for an unknown type.
SPLITOP_API size_t splitop_dtype_bytes(splitop_dtype dtype);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_DTYPE_H_
