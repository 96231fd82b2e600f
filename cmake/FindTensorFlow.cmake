# FindTensorFlow
# --------------
# Finds the TensorFlow of the Python interpreter that drives the build.
#
# Reads Python_EXECUTABLE. Defines the target TensorFlow::TensorFlow and
#   TensorFlow_FOUND, TensorFlow_VERSION
#   TensorFlow_INCLUDE_DIR          TensorFlow's own headers
#   TensorFlow_PYTHON_INCLUDE_DIR   the Python headers in the wheel, if it has any

execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
          "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/tensorflow_flags.py"
  OUTPUT_VARIABLE _tensorflow_output
  ERROR_VARIABLE _tensorflow_error
  RESULT_VARIABLE _tensorflow_result
)

if(_tensorflow_result EQUAL 0)
  # TensorFlow may print lines of its own.
  foreach(_key VERSION COMPILE_FLAGS LINK_FLAGS)
    string(REGEX MATCH "splitop ${_key} ([^\n]*)" _line "${_tensorflow_output}")
    set(_tensorflow_${_key} "${CMAKE_MATCH_1}")
  endforeach()
  set(TensorFlow_VERSION "${_tensorflow_VERSION}")
else()
  string(STRIP "${_tensorflow_error}" _tensorflow_error)
  string(REGEX MATCH "[^\n]*$" _tensorflow_error "${_tensorflow_error}")
  set(TensorFlow_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorFlow
  REQUIRED_VARS TensorFlow_VERSION
  VERSION_VAR TensorFlow_VERSION
  REASON_FAILURE_MESSAGE "
Python could not import it:
    ${_tensorflow_error}
Install TensorFlow in the environment of this Python, with
    pip install 'tensorflow-cpu==2.21.*'          (extra: cpu)
    pip install 'tensorflow[and-cuda]==2.21.*'    (extra: cuda)
and build against it: pip install --no-build-isolation .
Without TensorFlow, -DSPLITOP_TENSORFLOW=OFF builds the kernels only.
Received: ${Python_EXECUTABLE}."
)

if(TensorFlow_FOUND AND NOT TARGET TensorFlow::TensorFlow)
  set(_tensorflow_includes "${_tensorflow_COMPILE_FLAGS}")
  list(FILTER _tensorflow_includes INCLUDE REGEX "^-I")
  list(TRANSFORM _tensorflow_includes REPLACE "^-I" "")

  set(_tensorflow_definitions "${_tensorflow_COMPILE_FLAGS}")
  list(FILTER _tensorflow_definitions INCLUDE REGEX "^-D")
  list(TRANSFORM _tensorflow_definitions REPLACE "^-D" "")

  add_library(TensorFlow::TensorFlow INTERFACE IMPORTED)
  target_include_directories(TensorFlow::TensorFlow SYSTEM INTERFACE ${_tensorflow_includes})
  target_compile_definitions(TensorFlow::TensorFlow INTERFACE ${_tensorflow_definitions})
  target_compile_features(TensorFlow::TensorFlow INTERFACE cxx_std_17)
  target_link_libraries(TensorFlow::TensorFlow INTERFACE ${_tensorflow_LINK_FLAGS})

  list(GET _tensorflow_includes 0 TensorFlow_INCLUDE_DIR)
  set(TensorFlow_PYTHON_INCLUDE_DIR
    "${TensorFlow_INCLUDE_DIR}/external/local_config_python/python_include")
endif()
