#include "splitop/status.h"

const char* splitop_status_message(splitop_status status) {
  switch (status) {
    case SPLITOP_OK:
      return "ok";
    case SPLITOP_INVALID_ARGUMENT:
      return "invalid argument";
    case SPLITOP_UNSUPPORTED:
      return "not supported by this build or this machine";
    case SPLITOP_DEVICE_ERROR:
      return "CUDA or cuBLAS has failed";
  }
  return "unknown status";
}
