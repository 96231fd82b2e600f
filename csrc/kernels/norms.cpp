#include "splitop/dense_sweep.h"

const char* splitop_norms_name(splitop_norms norms) {
  switch (norms) {
    case SPLITOP_NORMS_NONE:
      return "none";
    case SPLITOP_NORMS_BOUNDS:
      return "bounds";
    case SPLITOP_NORMS_EXACT:
      return "exact";
    default:
      return nullptr;
  }
}
