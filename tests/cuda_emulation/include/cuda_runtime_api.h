// Stands in for CUDA's header of this name: its part for the host.
#ifndef SPLITOP_EMULATION_CUDA_RUNTIME_API_H_
#define SPLITOP_EMULATION_CUDA_RUNTIME_API_H_

#include "cuda_runtime.h"

#endif  // SPLITOP_EMULATION_CUDA_RUNTIME_API_H_
