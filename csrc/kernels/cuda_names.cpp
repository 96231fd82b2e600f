// Names and messages of splitop/cuda.h, in every build.
#include "splitop/cuda.h"

const char* splitop_cuda_state_message(splitop_cuda_state state) {
  switch (state) {
    case SPLITOP_CUDA_READY:
      return "ready";
    case SPLITOP_CUDA_NOT_BUILT:
      return "this library was built without CUDA";
    case SPLITOP_CUDA_NO_DRIVER:
      return "there is no NVIDIA driver";
    case SPLITOP_CUDA_OLD_DRIVER:
      return "the NVIDIA driver is too old for the CUDA that this library was built with";
    case SPLITOP_CUDA_NO_DEVICE:
      return "there is no GPU, or none is visible";
    case SPLITOP_CUDA_OLD_DEVICE:
      return "no GPU has compute capability 8.0 or newer";
    case SPLITOP_CUDA_BROKEN:
      return "the NVIDIA driver reports an error";
    default:
      return "unknown state";
  }
}

const char* splitop_cuda_strategy_name(splitop_cuda_strategy strategy) {
  switch (strategy) {
    case SPLITOP_CUDA_AUTO:
      return "auto";
    case SPLITOP_CUDA_TILES:
      return "tiles";
    case SPLITOP_CUDA_CHUNKS:
      return "chunks";
    case SPLITOP_CUDA_ACCUMULATE:
      return "accumulate";
    default:
      return nullptr;
  }
}
