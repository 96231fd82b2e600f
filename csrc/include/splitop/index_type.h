// The types of ids.
#ifndef SPLITOP_INDEX_TYPE_H_
#define SPLITOP_INDEX_TYPE_H_

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum splitop_index_type {
  SPLITOP_INT32 = 0,
  SPLITOP_INT64 = 1,
  SPLITOP_NUM_INDEX_TYPES = 2
} splitop_index_type;

// "int32", "int64"; NULL for an unknown one.
SPLITOP_API const char* splitop_index_type_name(splitop_index_type type);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_INDEX_TYPE_H_
