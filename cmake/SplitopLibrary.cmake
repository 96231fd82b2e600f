# What every target of the project is compiled and linked with.

# Settings for a target that lands in splitop/lib.
function(splitop_configure target)
  target_compile_features(${target} PRIVATE cxx_std_17)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>"
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release,RelWithDebInfo>>:-O3>"
  )
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    BUILD_WITH_INSTALL_RPATH ON
    INSTALL_RPATH "$ORIGIN"
  )
  if(SPLITOP_SANITIZE)
    list(JOIN SPLITOP_SANITIZE "," sanitizers)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:\
-fsanitize=${sanitizers};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>")
    target_link_options(${target} PRIVATE -fsanitize=${sanitizers})
  else()
    # A missing symbol shows when linking, not when a user loads the library.
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "SHARED_LIBRARY")
      target_link_options(${target} PRIVATE -Wl,--no-undefined)
    endif()
  endif()
endfunction()

# splitop_library(<target> EXPORTS <version script>): a shared library of the package.
function(splitop_library target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "EXPORTS" "")
  add_library(${target} SHARED)
  splitop_configure(${target})
  target_link_options(${target} PRIVATE "-Wl,--version-script=${arg_EXPORTS}")
  set_target_properties(${target} PROPERTIES LINK_DEPENDS "${arg_EXPORTS}")
endfunction()

option(SPLITOP_UNITY "Compile several sources at a time where their headers are most of the work" ON)

# splitop_read_headers_once(<target> <sources>): so many sources of a target are compiled as one.
function(splitop_read_headers_once target sources)
  set_target_properties(${target} PROPERTIES
    UNITY_BUILD ${SPLITOP_UNITY} UNITY_BUILD_BATCH_SIZE ${sources})
endfunction()
