# Decides whether the op library's XLA kernels are built. Reads SPLITOP_XLA. Sets
#   SPLITOP_XLA_NOT_BUILT  why they are not; else empty
# and defines the target splitop_xla. A library of its own: what it needs of TensorFlow's C++ library
# and of headers is more than an op needs, and may not be there.

set(SPLITOP_XLA AUTO CACHE STRING
  "The ops inside jit_compile=True: AUTO (if XLA's headers and library are found), ON or OFF")
set_property(CACHE SPLITOP_XLA PROPERTY STRINGS AUTO ON OFF)
if(NOT SPLITOP_XLA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SPLITOP_XLA must be AUTO, ON or OFF. Received: ${SPLITOP_XLA}.")
endif()

set(SPLITOP_XLA_NOT_BUILT)
if(NOT SPLITOP_TENSORFLOW)
  set(SPLITOP_XLA_NOT_BUILT "SPLITOP_TENSORFLOW was OFF")
elseif(SPLITOP_XLA STREQUAL "OFF")
  set(SPLITOP_XLA_NOT_BUILT "SPLITOP_XLA was OFF")
else()
  # XLA's own headers include these two. The wheel has them, where its compile flags do not look.
  find_path(SPLITOP_HIGHWAYHASH_INCLUDE highwayhash/arch_specific.h
    HINTS "${TensorFlow_INCLUDE_DIR}/external/highwayhash")
  find_path(SPLITOP_FARMHASH_INCLUDE farmhash.h
    HINTS "${TensorFlow_INCLUDE_DIR}/external/farmhash_archive/src")
  find_path(SPLITOP_XLA_INCLUDE tensorflow/compiler/tf2xla/xla_op_kernel.h
    HINTS "${TensorFlow_INCLUDE_DIR}" NO_DEFAULT_PATH)
  find_library(SPLITOP_TENSORFLOW_CC NAMES libtensorflow_cc.so.2
    HINTS "${TensorFlow_INCLUDE_DIR}/.." NO_DEFAULT_PATH)
  foreach(needed HIGHWAYHASH_INCLUDE FARMHASH_INCLUDE XLA_INCLUDE TENSORFLOW_CC)
    if(NOT SPLITOP_${needed})
      list(APPEND SPLITOP_XLA_NOT_BUILT "SPLITOP_${needed}")
    endif()
  endforeach()
  if(SPLITOP_XLA_NOT_BUILT)
    list(JOIN SPLITOP_XLA_NOT_BUILT ", " SPLITOP_XLA_NOT_BUILT)
    string(PREPEND SPLITOP_XLA_NOT_BUILT "not found: ")
    if(SPLITOP_XLA STREQUAL "ON")
      message(FATAL_ERROR "The XLA kernels can't be built: ${SPLITOP_XLA_NOT_BUILT}.\n"
        "They come with TensorFlow's wheel; Debian has libhighwayhash-dev and libfarmhash-dev, too. "
        "Say where each is with -D, or build without XLA: -DSPLITOP_XLA=OFF.")
    endif()
  endif()
endif()

if(SPLITOP_XLA_NOT_BUILT)
  message(STATUS "XLA kernels: not built (${SPLITOP_XLA_NOT_BUILT})")
  return()
endif()
message(STATUS "XLA kernels: ${SPLITOP_TENSORFLOW_CC}")

splitop_library(splitop_xla EXPORTS "${PROJECT_SOURCE_DIR}/cmake/ops.map")
file(GLOB SPLITOP_XLA_SOURCES CONFIGURE_DEPENDS csrc/jit/*.cpp)
target_sources(splitop_xla PRIVATE ${SPLITOP_XLA_SOURCES})
target_include_directories(splitop_xla PRIVATE csrc)
target_include_directories(splitop_xla SYSTEM PRIVATE
  "${SPLITOP_HIGHWAYHASH_INCLUDE}" "${SPLITOP_FARMHASH_INCLUDE}")
target_link_libraries(splitop_xla PRIVATE
  splitop_kernels TensorFlow::TensorFlow "${SPLITOP_TENSORFLOW_CC}")
splitop_read_headers_once(splitop_xla 5)  # XLA's take a minute
