# Sources of the framework-free kernels, and which of them use which instruction set.
# Sets SPLITOP_KERNEL_SOURCES, SPLITOP_KERNEL_DEFINITIONS and SPLITOP_ISAS.

set(SPLITOP_KERNEL_SOURCES
  csrc/kernels/activation.cpp
  csrc/kernels/checks.cpp
  csrc/kernels/cuda_names.cpp
  csrc/kernels/dtype.cpp
  csrc/kernels/norms.cpp
  csrc/kernels/status.cpp
  csrc/kernels/table_update.cpp
  csrc/kernels/update_rule.cpp
  csrc/kernels/cpu/batched_product.cpp
  csrc/kernels/cpu/cache.cpp
  csrc/kernels/cpu/convolution.cpp
  csrc/kernels/cpu/isa.cpp
  csrc/kernels/cuda/plan.cpp
  csrc/kernels/cuda/strategy.cpp
  csrc/kernels/cpu/dense_chain.cpp
  csrc/kernels/cpu/dense_chain_tables.cpp
  csrc/kernels/cpu/dense_sweep.cpp
  csrc/kernels/cpu/layer_norm.cpp
  csrc/kernels/cpu/max_pool.cpp
  csrc/kernels/cpu/multi_tensor_update.cpp
  csrc/kernels/cpu/softmax.cpp
  csrc/kernels/cpu/squared_norms.cpp
  csrc/kernels/cpu/table_lookup.cpp
  csrc/kernels/cpu/table_update.cpp
)
set(SPLITOP_KERNEL_DEFINITIONS)
set(SPLITOP_ISAS)

# splitop_add_isa(<name> <source> [compile flags]...): the inner loops for one instruction set.
macro(splitop_add_isa name source)
  list(APPEND SPLITOP_ISAS ${name})
  list(APPEND SPLITOP_KERNEL_SOURCES ${source})
  # No reassociation: the results must not depend on the compiler's mood. Loops are aligned, for
  # where a product's loop happens to start makes 1 to 4% of its speed.
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
    "-O3;-falign-loops=64;-fno-math-errno;-fno-trapping-math;-ffp-contract=fast;${ARGN}")
endmacro()

option(SPLITOP_WIDE_BASELINE
  "Give the baseline kernels AVX-512's vector and tile sizes, to test those anywhere" OFF)
if(SPLITOP_WIDE_BASELINE)
  splitop_add_isa(baseline csrc/kernels/cpu/dense_chain_baseline.cpp -DSPLITOP_VECTOR_BYTES=64 -Wno-psabi)
else()
  splitop_add_isa(baseline csrc/kernels/cpu/dense_chain_baseline.cpp)
endif()
option(SPLITOP_BASELINE_ONLY
  "No kernels for AVX2 and AVX-512: less to compile where the CPU's kernels are not the point" OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND NOT SPLITOP_BASELINE_ONLY)
  splitop_add_isa(avx2 csrc/kernels/cpu/dense_chain_avx2.cpp -mavx2 -mfma)
  splitop_add_isa(avx512 csrc/kernels/cpu/dense_chain_avx512.cpp
    -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma)
  list(APPEND SPLITOP_KERNEL_DEFINITIONS SPLITOP_HAVE_AVX2 SPLITOP_HAVE_AVX512)
endif()
