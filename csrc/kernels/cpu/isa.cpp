#include <atomic>

#include "splitop/cpu.h"

namespace {

bool compiled(splitop_cpu_isa isa) {
  switch (isa) {
    case SPLITOP_ISA_BASELINE:
      return true;
    case SPLITOP_ISA_AVX2:
#ifdef SPLITOP_HAVE_AVX2
      return true;
#else
      return false;
#endif
    case SPLITOP_ISA_AVX512:
#ifdef SPLITOP_HAVE_AVX512
      return true;
#else
      return false;
#endif
    default:
      return false;
  }
}

bool machine_has(splitop_cpu_isa isa) {
  if (isa == SPLITOP_ISA_BASELINE) return true;
#if defined(__x86_64__)
  if (isa == SPLITOP_ISA_AVX2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
  if (isa == SPLITOP_ISA_AVX512) {
    return machine_has(SPLITOP_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw");
  }
#endif
  return false;
}

splitop_cpu_isa widest() {
  if (splitop_cpu_isa_available(SPLITOP_ISA_AVX512)) return SPLITOP_ISA_AVX512;
  if (splitop_cpu_isa_available(SPLITOP_ISA_AVX2)) return SPLITOP_ISA_AVX2;
  return SPLITOP_ISA_BASELINE;
}

std::atomic<splitop_cpu_isa>& selected() {
  static std::atomic<splitop_cpu_isa> isa{widest()};
  return isa;
}

}  // namespace

const char* splitop_cpu_isa_name(splitop_cpu_isa isa) {
  switch (isa) {
    case SPLITOP_ISA_BASELINE:
      return "baseline";
    case SPLITOP_ISA_AVX2:
      return "avx2";
    case SPLITOP_ISA_AVX512:
      return "avx512";
    default:
      return nullptr;
  }
}

int32_t splitop_cpu_isa_available(splitop_cpu_isa isa) { return compiled(isa) && machine_has(isa); }

splitop_cpu_isa splitop_cpu_isa_in_use(void) { return selected().load(std::memory_order_relaxed); }

splitop_status splitop_cpu_select_isa(splitop_cpu_isa isa) {
  if (!splitop_cpu_isa_available(isa)) return SPLITOP_UNSUPPORTED;
  selected().store(isa, std::memory_order_relaxed);
  return SPLITOP_OK;
}
