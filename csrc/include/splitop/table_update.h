// The optimizer update of embedding tables from the gradients of the rows that were looked up.
//
// Position p of a table's ids has looked up row ids[p]. The gradient of row r is
//   g_r = sum over the p with ids[p] == r, in ascending order of p, of factor_p * gradient[row_p]
// with row_p = gradient_row[p], or p without gradient_row: ids that share a row_p are a bag. The
// rule is applied to row r once, with g_r. No gradient of the whole table is ever made, and
// neither are copies of the rows of `gradient`.
#ifndef SPLITOP_TABLE_UPDATE_H_
#define SPLITOP_TABLE_UPDATE_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/cuda.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/index_type.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

#ifdef __cplusplus
extern "C" {
#endif

// How the forward pass has combined the rows of a bag of n ids; factor_p is id_weights[p] (1
// without id_weights) times this. TensorFlow divides by sums of weights where there are weights:
// then these quotients are the id_weights, and the combiner is SPLITOP_COMBINER_SUM.
typedef enum splitop_combiner {
  SPLITOP_COMBINER_SUM = 0,    // 1
  SPLITOP_COMBINER_MEAN = 1,   // 1 / n
  SPLITOP_COMBINER_SQRTN = 2,  // 1 / sqrt(n)
  SPLITOP_NUM_COMBINERS = 3
} splitop_combiner;

typedef enum splitop_row_scope {
  SPLITOP_LOOKED_UP_ROWS = 0,  // rows that no id points to are neither read nor written
  SPLITOP_ALL_ROWS = 1,        // the rule is applied to them too, with g = 0
  SPLITOP_NUM_ROW_SCOPES = 2
} splitop_row_scope;

// "sum", "mean", "sqrtn"; NULL for an unknown one.
SPLITOP_API const char* splitop_combiner_name(splitop_combiner combiner);

typedef struct splitop_table_update {
  int64_t rows, width;                   // [in] of the variable, at least 0
  int64_t num_ids;                       // [in] at least 0
  splitop_index_type id_type;            // [in]
  const void* ids;                       // [in] [num_ids], each in [0, rows)
  int64_t gradient_rows;                 // [in] num_ids without gradient_row
  const void* gradient;                  // [in] [gradient_rows, width], row-major
  splitop_index_type gradient_row_type;  // [in]
  const void* gradient_row;              // [in] [num_ids], each below gradient_rows; negative: the
                                         //      position adds nothing; may be NULL
  splitop_combiner combiner;             // [in] the sum without gradient_row
  const void* id_weights;                // [in] [num_ids]; may be NULL
  splitop_row_scope scope;               // [in]
  int32_t sums_squares;                  // [in] nonzero: where the rule has g * g it takes the sum
                                         //      of the squares of the terms of g_r, as the Keras
                                         //      optimizers do; not for adadelta, adamax and
                                         //      row-wise rules
  splitop_variable variable;             // [in,out] [rows, width]; its clip must be NULL
} splitop_table_update;

typedef struct splitop_multi_table_update {
  splitop_dtype dtype;       // [in] of all but ids and gradient_row: float32 or float64
  splitop_update_rule rule;  // [in]
  const void* hyper;         // [in] splitop_num_hyper(rule) scalars; CPU: host memory, CUDA:
                             //      the device's
  int32_t num_tables;        // [in] at least 0
  const splitop_table_update* tables;  // [in] host memory
} splitop_multi_table_update;

// Scratch that splitop_cpu_table_update needs, in bytes; 0 if it needs none, and if the update is
// invalid.
SPLITOP_API size_t splitop_cpu_table_update_scratch_bytes(const splitop_multi_table_update* update,
                                                          int32_t num_workers);

// Updates all tables. scratch: 64-byte aligned; scratch_bytes: at least the size above, for the
// executor's number of workers. All arguments, ids and gradient_row too, are checked before
// anything is written. Variables must not overlap each other or any input. The result is the same,
// bit for bit, for any executor. SPLITOP_UNSUPPORTED where a row and a position of ids do not fit
// into 64 bits together.
SPLITOP_API splitop_status splitop_cpu_table_update(const splitop_multi_table_update* update,
                                                    void* scratch, size_t scratch_bytes,
                                                    const splitop_executor* executor);

// What is wrong with ids and gradient_row: 0 if nothing is, or if other arguments are invalid. Else
// 1, and the first table and the first position in it whose id, or whose gradient_row, is out of
// range.
SPLITOP_API int32_t splitop_cpu_find_bad_id(const splitop_multi_table_update* update,
                                            const splitop_executor* executor, int32_t* table,
                                            int64_t* position);

// Scratch that splitop_cuda_table_update needs on the current device, in bytes; 0 if the update is
// invalid or not supported, or there is no such device.
SPLITOP_API size_t
splitop_cuda_table_update_scratch_bytes(const splitop_multi_table_update* update);

// The same on the current CUDA device. scratch: 256-byte aligned; scratch_bytes: at least the size
// above. Ids are not checked, as the host would have to wait for them. Instead, as in TensorFlow's
// own kernels for GPUs, an id out of range updates nothing, and a gradient_row that is too large
// adds nothing; a bag counts all of its positions. The order in which the gradient of a row is
// summed up depends on how often it was looked up, and on the number of ids before it, alone: the
// result is the same, bit for bit, from run to run. SPLITOP_UNSUPPORTED for row-wise rules, and
// where all tables together have 2^32 rows or 2^31 ids, or one has a width above 2^30.
SPLITOP_API splitop_status splitop_cuda_table_update(const splitop_multi_table_update* update,
                                                     void* scratch, size_t scratch_bytes,
                                                     splitop_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_TABLE_UPDATE_H_
