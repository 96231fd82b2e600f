# Decides whether the CUDA kernels are built, and with what. Reads SPLITOP_CUDA. Sets
#   SPLITOP_CUDA_VERSION        "13.0" (of the toolkit), "emulated", or empty: they are not built
#   SPLITOP_CUDA_NOT_BUILT      why they are not
#   SPLITOP_CUDA_ARCHITECTURES  what they are compiled for: sm_80 ...
# and defines splitop_add_cuda(<target>), which gives a target the CUDA functions, or their stubs.

set(SPLITOP_CUDA_SOURCES
  csrc/kernels/cuda/cublas.cpp
  csrc/kernels/cuda/current_device.cpp
  csrc/kernels/cuda/dense_chain.cpp
  csrc/kernels/cuda/dense_chain_bfloat16.cu
  csrc/kernels/cuda/dense_chain_float16.cu
  csrc/kernels/cuda/dense_chain_float32.cu
  csrc/kernels/cuda/dense_chain_float64.cu
  csrc/kernels/cuda/dense_chain_tf32.cu
  csrc/kernels/cuda/device.cpp
  csrc/kernels/cuda/failure.cpp
  csrc/kernels/cuda/load.cpp
  csrc/kernels/cuda/multi_tensor_update.cu
  csrc/kernels/cuda/scalars.cu
  csrc/kernels/cuda/sort_pairs.cu
  csrc/kernels/cuda/table_ids.cu
  csrc/kernels/cuda/table_rows_float32.cu
  csrc/kernels/cuda/table_rows_float64.cu
  csrc/kernels/cuda/table_update.cpp
  csrc/kernels/cuda/warm_up.cpp
)

set(SPLITOP_CUDA AUTO CACHE STRING
  "CUDA kernels: AUTO (if a usable nvcc is found), ON, OFF, or EMULATED on the CPU, for tests")
set_property(CACHE SPLITOP_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
option(SPLITOP_PTXAS_VERBOSE "Let ptxas print the registers and spills of every kernel" OFF)

set(SPLITOP_CUDA_VERSION)
set(SPLITOP_CUDA_NOT_BUILT)
set(SPLITOP_CUDA_ARCHITECTURES)

if(SPLITOP_CUDA STREQUAL "EMULATED")
  set(SPLITOP_CUDA_VERSION emulated)
  add_compile_definitions(SPLITOP_CUDA_EMULATION)
  include(CudaEmulation)
elseif(SPLITOP_CUDA MATCHES "^(AUTO|ON)$")
  include(FindNvcc)
  if(NOT SPLITOP_NVCC_PROBLEM)
    include(CudaToolkit)
  elseif(SPLITOP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "The CUDA kernels can't be built: ${SPLITOP_NVCC_PROBLEM}.\n"
      "Install the CUDA toolkit ${SPLITOP_NVCC_MINIMUM} or newer and put nvcc on the PATH (or name "
      "it in CUDACXX), or build without CUDA kernels: -DSPLITOP_CUDA=OFF.")
  else()
    set(SPLITOP_CUDA_NOT_BUILT "${SPLITOP_NVCC_PROBLEM}")
  endif()
elseif(SPLITOP_CUDA STREQUAL "OFF")
  set(SPLITOP_CUDA_NOT_BUILT "SPLITOP_CUDA was OFF")
else()
  message(FATAL_ERROR
    "SPLITOP_CUDA must be AUTO, ON, OFF or EMULATED. Received: ${SPLITOP_CUDA}.")
endif()

if(SPLITOP_CUDA_NOT_BUILT)
  message(STATUS "CUDA kernels: not built (${SPLITOP_CUDA_NOT_BUILT})")
else()
  list(JOIN SPLITOP_CUDA_ARCHITECTURES ", " _architectures)
  message(STATUS "CUDA kernels: ${SPLITOP_CUDA_VERSION} ${_architectures}")
endif()

function(splitop_add_cuda target)
  if(SPLITOP_CUDA_NOT_BUILT)
    target_sources(${target} PRIVATE csrc/kernels/cuda/not_built.cpp)
  elseif(SPLITOP_CUDA_VERSION STREQUAL "emulated")
    splitop_add_cuda_emulation(${target} ${SPLITOP_CUDA_SOURCES})
    # The loader takes libraries of one name for the same, and tests load this build beside
    # another: so it has a name of its own, and a link where the op looks for the other.
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${target}_emulated)
    install(CODE "file(CREATE_LINK lib${target}_emulated.so
      \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${SPLITOP_INSTALL_DIR}/lib${target}.so\" SYMBOLIC)")
  else()
    splitop_add_cuda_toolkit(${target} ${SPLITOP_CUDA_SOURCES})
  endif()
endfunction()
