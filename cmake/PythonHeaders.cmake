# Finds Python's headers and pybind11 for the interpreter that drives the build.

execute_process(
  COMMAND "${Python_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_path('include'))"
  OUTPUT_VARIABLE SPLITOP_PYTHON_INCLUDE
  OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY
)
if(NOT EXISTS "${SPLITOP_PYTHON_INCLUDE}/Python.h")
  # The TensorFlow wheel carries the headers of the Python it was built for.
  if(NOT EXISTS "${TensorFlow_PYTHON_INCLUDE_DIR}/Python.h")
    message(FATAL_ERROR
      "Python.h is missing: install the headers of Python "
      "${Python_VERSION_MAJOR}.${Python_VERSION_MINOR} (Debian: "
      "apt-get install python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}-dev). "
      "Received: ${SPLITOP_PYTHON_INCLUDE}.")
  endif()
  set(Python_INCLUDE_DIR "${TensorFlow_PYTHON_INCLUDE_DIR}")
  message(STATUS "Python.h: from the TensorFlow wheel")
endif()

find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)

execute_process(
  COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
  OUTPUT_VARIABLE SPLITOP_PYBIND11_DIR
  RESULT_VARIABLE SPLITOP_PYBIND11_RESULT
  ERROR_QUIET
  OUTPUT_STRIP_TRAILING_WHITESPACE
)
if(NOT SPLITOP_PYBIND11_RESULT EQUAL 0)
  message(FATAL_ERROR
    "pybind11 is missing: install it next to the Python that drives the build "
    "(pip install pybind11). Received: ${Python_EXECUTABLE}.")
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 2.12 CONFIG REQUIRED PATHS "${SPLITOP_PYBIND11_DIR}" NO_DEFAULT_PATH)
