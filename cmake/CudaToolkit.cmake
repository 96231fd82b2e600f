# Enables CUDA with the nvcc of FindNvcc, and defines splitop_add_cuda_toolkit.

set(CMAKE_CUDA_COMPILER "${SPLITOP_NVCC}")
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # machine code for both, and PTX for what comes later
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

set(SPLITOP_CUDA_VERSION "${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
set(SPLITOP_CUDA_ARCHITECTURES sm_80 sm_90 compute_90)

# splitop_add_cuda_toolkit(<target> <source>...): CUDA sources, for the toolkit's compiler.
# The runtime is linked in and the driver is opened by it at run time, so that the library loads
# on any machine.
function(splitop_add_cuda_toolkit target)
  target_sources(${target} PRIVATE ${ARGN})
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
  set_target_properties(${target} PROPERTIES
    CUDA_STANDARD 17
    CUDA_STANDARD_REQUIRED ON
    CUDA_EXTENSIONS OFF
    CUDA_VISIBILITY_PRESET hidden
    CUDA_RUNTIME_LIBRARY None  # linked above
    CUDA_RESOLVE_DEVICE_SYMBOLS OFF
  )
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<CONFIG:RelWithDebInfo>>:-lineinfo>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${SPLITOP_PTXAS_VERBOSE}>>:-Xptxas=-v>"
  )
endfunction()
