# Installs splitop/lib/build_config.json: what the libraries beside it were built from and for.

# splitop_json(<variable> [text]): a JSON string, or null. What would need escapes is left out.
function(splitop_json variable)
  if(ARGN)
    string(REGEX REPLACE "[^A-Za-z0-9 ,.:_()/+='-]" "" text "${ARGN}")
    set(${variable} "\"${text}\"" PARENT_SCOPE)
  else()
    set(${variable} null PARENT_SCOPE)
  endif()
endfunction()

if(SPLITOP_TENSORFLOW)
  splitop_json(SPLITOP_JSON_TENSORFLOW ${TensorFlow_VERSION})
else()
  splitop_json(SPLITOP_JSON_TENSORFLOW)
endif()
splitop_json(SPLITOP_JSON_CUDA ${SPLITOP_CUDA_VERSION})
splitop_json(SPLITOP_JSON_CUDA_NOT_BUILT ${SPLITOP_CUDA_NOT_BUILT})
splitop_json(SPLITOP_JSON_XLA_NOT_BUILT ${SPLITOP_XLA_NOT_BUILT})
list(TRANSFORM SPLITOP_CUDA_ARCHITECTURES REPLACE ".+" "\"\\0\"")
list(JOIN SPLITOP_CUDA_ARCHITECTURES ", " SPLITOP_JSON_CUDA_ARCHITECTURES)
list(JOIN SPLITOP_ISAS "\", \"" SPLITOP_JSON_ISAS)
list(JOIN SPLITOP_SANITIZE "," SPLITOP_JSON_SANITIZE)

find_package(Git QUIET)
configure_file(
  "${PROJECT_SOURCE_DIR}/cmake/install_build_config.cmake.in"
  "${PROJECT_BINARY_DIR}/install_build_config.cmake"
  @ONLY ESCAPE_QUOTES
)
# While installing rather than configuring: the commit may have changed in between.
install(SCRIPT "${PROJECT_BINARY_DIR}/install_build_config.cmake")
