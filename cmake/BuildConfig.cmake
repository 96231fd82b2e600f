# Installs splitop/lib/build_config.json: what the libraries beside it were built from and for.

if(SPLITOP_TENSORFLOW)
  set(SPLITOP_JSON_TENSORFLOW "\"${TensorFlow_VERSION}\"")
else()
  set(SPLITOP_JSON_TENSORFLOW null)
endif()
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
