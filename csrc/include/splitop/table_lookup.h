// The rows of an embedding table that ids point to.
#ifndef SPLITOP_TABLE_LOOKUP_H_
#define SPLITOP_TABLE_LOOKUP_H_

#include <stdint.h>

#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/index_type.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_table_lookup {
  int64_t rows, row_bytes;     // [in] of the table, at least 0
  const void* table;           // [in] [rows, row_bytes]
  int64_t num_ids;             // [in] at least 0
  splitop_index_type id_type;  // [in]
  const void* ids;             // [in] [num_ids], each in [0, rows)
  void* result;                // [out] [num_ids, row_bytes]; must not overlap any input
} splitop_table_lookup;

// Copies the rows. SPLITOP_INVALID_ARGUMENT, among others, if an id is out of range: no row is read
// for it, and what is in `result` then is undefined.
SPLITOP_API splitop_status splitop_cpu_table_lookup(const splitop_table_lookup* lookup,
                                                    const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_TABLE_LOOKUP_H_
