// The optimizer update of many variables whose gradients are in memory, in one call.
#ifndef SPLITOP_MULTI_TENSOR_UPDATE_H_
#define SPLITOP_MULTI_TENSOR_UPDATE_H_

#include <stdint.h>

#include "splitop/cuda.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_tensor_update {
  int64_t count;              // [in] elements, at least 0
  int64_t rows;               // [in] for a row-wise rule, else unused: that the elements make up
  const void* gradient;       // [in] dense
  splitop_variable variable;  // [in,out]
} splitop_tensor_update;

typedef struct splitop_multi_tensor_update {
  splitop_dtype gradient_dtype;  // [in] variable_dtype, or a 16-bit type with float32 variables
  splitop_dtype variable_dtype;  // [in] of variables, slots and hyper: float32 or float64
  splitop_update_rule rule;      // [in]
  const void* hyper;  // [in] splitop_num_hyper(rule) scalars; CPU: host memory, CUDA: the device's
  int32_t num_tensors;                   // [in] at least 0
  const splitop_tensor_update* tensors;  // [in] host memory
} splitop_multi_tensor_update;

// Updates all variables. All arguments are checked before anything is written. Variables must not
// overlap each other or any gradient. The result is the same, bit for bit, for any executor.
// Gradients of 16 bits are SPLITOP_UNSUPPORTED on the CPU.
SPLITOP_API splitop_status splitop_cpu_multi_tensor_update(
    const splitop_multi_tensor_update* update, const splitop_executor* executor);

// The same on the current CUDA device. SPLITOP_UNSUPPORTED for row-wise rules.
SPLITOP_API splitop_status splitop_cuda_multi_tensor_update(
    const splitop_multi_tensor_update* update, splitop_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_MULTI_TENSOR_UPDATE_H_
