# Looks for an nvcc that compiles a small kernel with this build's C++ compiler. Sets
#   SPLITOP_NVCC          its path
#   SPLITOP_NVCC_VERSION  13.0.88
#   SPLITOP_NVCC_PROBLEM  why there is none to use; empty if there is

set(SPLITOP_NVCC_MINIMUM 12.1)  # the first that takes 32 KB of kernel arguments
set(SPLITOP_NVCC_FLAGS
  -std=c++17 -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=[sm_90,compute_90])
set(SPLITOP_NVCC_PROBLEM)

# Whoever names a compiler gets that one or none, as with CXX.
set(_names nvcc)
if(DEFINED ENV{CUDACXX})
  set(_names "$ENV{CUDACXX}")
endif()
find_program(SPLITOP_NVCC NAMES ${_names}
  HINTS "$ENV{CUDA_HOME}/bin"
  PATHS /usr/local/cuda/bin
  DOC "CUDA's compiler"
)
if(NOT SPLITOP_NVCC)
  list(JOIN _names " " _names)
  set(SPLITOP_NVCC_PROBLEM "there is no ${_names} on the PATH")
endif()

# Sets SPLITOP_NVCC_VERSION, or SPLITOP_NVCC_PROBLEM.
function(splitop_nvcc_version)
  execute_process(COMMAND "${SPLITOP_NVCC}" --version
    OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
  if(NOT output MATCHES "release [0-9.]+, V([0-9]+\\.[0-9]+\\.[0-9]+)")
    set(SPLITOP_NVCC_PROBLEM "${SPLITOP_NVCC} does not run" PARENT_SCOPE)
    return()
  endif()
  set(SPLITOP_NVCC_VERSION "${CMAKE_MATCH_1}" PARENT_SCOPE)
  if(CMAKE_MATCH_1 VERSION_LESS SPLITOP_NVCC_MINIMUM)
    set(SPLITOP_NVCC_PROBLEM
      "${SPLITOP_NVCC} is of CUDA ${CMAKE_MATCH_1}, older than ${SPLITOP_NVCC_MINIMUM}" PARENT_SCOPE)
  endif()
endfunction()

# Sets SPLITOP_NVCC_PROBLEM if a shared library with a kernel can't be made.
function(splitop_try_nvcc)
  # CMake runs again whenever one of its files changes, and nvcc takes seconds.
  set(tried "${SPLITOP_NVCC} ${SPLITOP_NVCC_VERSION} ${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_VERSION}")
  if(SPLITOP_NVCC_WORKS STREQUAL tried)
    return()
  endif()
  set(source "${PROJECT_BINARY_DIR}/nvcc_works.cu")
  file(WRITE "${source}" "__global__ void kernel(const __grid_constant__ int x, int* y) { *y = x; }
void launch(int* y) { kernel<<<1, 1>>>(1, y); }
")
  execute_process(
    COMMAND "${SPLITOP_NVCC}" ${SPLITOP_NVCC_FLAGS} "-ccbin=${CMAKE_CXX_COMPILER}" -cudart=static
            -Xcompiler=-fPIC -shared "${source}" -o "${PROJECT_BINARY_DIR}/nvcc_works.so"
    OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
  if(result EQUAL 0)
    set(SPLITOP_NVCC_WORKS "${tried}" CACHE INTERNAL "The last nvcc that compiled a kernel")
    return()
  endif()
  string(REGEX MATCH "[^\n]*([Ee]rror|fatal|not found)[^\n]*" error "${output}")
  string(STRIP "${error}" error)
  set(SPLITOP_NVCC_PROBLEM "${SPLITOP_NVCC} ${SPLITOP_NVCC_VERSION} does not compile with \
${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}: ${error}" PARENT_SCOPE)
endfunction()

if(NOT SPLITOP_NVCC_PROBLEM)
  splitop_nvcc_version()
endif()
if(NOT SPLITOP_NVCC_PROBLEM)
  splitop_try_nvcc()
endif()
