// Which instruction set the CPU kernels use, and what they take the caches to be.
#ifndef SPLITOP_CPU_H_
#define SPLITOP_CPU_H_

#include <stdint.h>

#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum splitop_cpu_isa {
  SPLITOP_ISA_BASELINE = 0,  // what the compiler targets by default: SSE2, NEON, ...
  SPLITOP_ISA_AVX2 = 1,      // AVX2 and FMA
  SPLITOP_ISA_AVX512 = 2,    // AVX-512 F, VL, DQ, BW
  SPLITOP_NUM_ISAS = 3
} splitop_cpu_isa;

// "baseline", "avx2" or "avx512"; NULL for an unknown one.
SPLITOP_API const char* splitop_cpu_isa_name(splitop_cpu_isa isa);

// 1 if this build and this machine can run the kernels of that instruction set, else 0.
SPLITOP_API int32_t splitop_cpu_isa_available(splitop_cpu_isa isa);

// The instruction set in use: the widest available, unless another was selected.
SPLITOP_API splitop_cpu_isa splitop_cpu_isa_in_use(void);

// Selects an instruction set for the whole process (tests, comparisons).
// SPLITOP_UNSUPPORTED if it is not available; the selection then stays.
SPLITOP_API splitop_status splitop_cpu_select_isa(splitop_cpu_isa isa);

// How many lines of the first-level data cache have the same place in it: the machine's ways, or 8
// where it doesn't say, unless others were set.
SPLITOP_API int32_t splitop_cpu_cache_ways(void);

// Sets them for the whole process (tests).
SPLITOP_API void splitop_cpu_set_cache_ways(int32_t ways);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_CPU_H_
