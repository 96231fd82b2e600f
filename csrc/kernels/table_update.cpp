#include "splitop/table_update.h"

const char* splitop_index_type_name(splitop_index_type type) {
  switch (type) {
    case SPLITOP_INT32:
      return "int32";
    case SPLITOP_INT64:
      return "int64";
    default:
      return nullptr;
  }
}

const char* splitop_combiner_name(splitop_combiner combiner) {
  switch (combiner) {
    case SPLITOP_COMBINER_SUM:
      return "sum";
    case SPLITOP_COMBINER_MEAN:
      return "mean";
    case SPLITOP_COMBINER_SQRTN:
      return "sqrtn";
    default:
      return nullptr;
  }
}
