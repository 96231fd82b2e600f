// A product of matrices for each member of a batch, as attention has them, or of rows by a matrix,
// as a dense layer has it.
#ifndef SPLITOP_BATCHED_PRODUCT_H_
#define SPLITOP_BATCHED_PRODUCT_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/activation.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// C = act(A B + bias). Strides are counted in elements. Those of A and B may be any, and the
// elements of C must be apart.
typedef struct splitop_batched_product {
  splitop_dtype dtype;                         // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int32_t num_batch_dims;                      // [in] at least 0
  const int64_t* batch;                        // [in] [num_batch_dims], each at least 0
  const int64_t *a_batch, *b_batch, *c_batch;  // [in] strides of these, [num_batch_dims]
  int64_t rows, cols, depth;                   // [in] A: [rows, depth], B: [depth, cols]
  const void* a;                               // [in]
  int64_t a_row, a_depth;                      // [in] strides
  const void* b;                               // [in]
  int64_t b_depth, b_col;                      // [in] strides; faster where one of them is 1
  const void* bias;                            // [in] [cols], for every row; NULL: none
  splitop_activation activation;               // [in] act; SPLITOP_LINEAR or SPLITOP_RELU
  void* c;                                     // [out] [rows, cols]; must not overlap any input
  int64_t c_row;                               // [in] stride; columns are contiguous
} splitop_batched_product;

// 0 if the product is invalid.
SPLITOP_API size_t splitop_cpu_batched_product_scratch_bytes(const splitop_batched_product* product,
                                                             int32_t num_workers);

// scratch: of so many bytes at least, aligned to 64. Each element is summed up in the order of
// depth, in blocks: the bits do not depend on the number of workers.
SPLITOP_API splitop_status splitop_cpu_batched_product(const splitop_batched_product* product,
                                                       void* scratch, size_t scratch_bytes,
                                                       const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_BATCHED_PRODUCT_H_
