#include "splitop/dtype.h"

const char* splitop_dtype_name(splitop_dtype dtype) {
  switch (dtype) {
    case SPLITOP_FLOAT32:
      return "float32";
    case SPLITOP_FLOAT64:
      return "float64";
    case SPLITOP_BFLOAT16:
      return "bfloat16";
    case SPLITOP_FLOAT16:
      return "float16";
    default:
      return nullptr;
  }
}

size_t splitop_dtype_bytes(splitop_dtype dtype) {
  switch (dtype) {
    case SPLITOP_FLOAT32:
      return 4;
    case SPLITOP_FLOAT64:
      return 8;
    case SPLITOP_BFLOAT16:
    case SPLITOP_FLOAT16:
      return 2;
    default:
      return 0;
  }
}
