# The CUDA sources compiled by g++ and run on the CPU, for tests: tests/cuda_emulation/README.md.

# splitop_add_cuda_emulation(<target> <CUDA source>...): gives the target the sources and what they
# run on. Builds a stand-in for cuBLAS too, for SPLITOP_CUBLAS to name.
function(splitop_add_cuda_emulation target)
  list(REMOVE_ITEM ARGN csrc/kernels/cuda/sort_pairs.cu)  # CUB
  set(emulation "${PROJECT_SOURCE_DIR}/tests/cuda_emulation")
  set(options
    -Wno-unknown-pragmas       # `#pragma unroll`
    -Wno-maybe-uninitialized   # what is loaded and used under the same condition
    -O1                        # more takes g++ minutes a file
  )
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")

  target_sources(${target} PRIVATE
    ${ARGN}
    "${emulation}/block.cpp"
    "${emulation}/fiber.cpp"
    "${emulation}/primitives.cpp"
    "${emulation}/runtime.cpp"
    "${emulation}/sort_pairs.cpp"
  )
  target_compile_definitions(${target} PRIVATE SPLITOP_CUDA_EMULATION)
  target_include_directories(${target} BEFORE PRIVATE "${emulation}/include")

  add_library(cublas_emulated SHARED "${emulation}/cublas.cpp")
  splitop_configure(cublas_emulated)
  install(TARGETS cublas_emulated LIBRARY DESTINATION ${SPLITOP_INSTALL_DIR})
endfunction()
