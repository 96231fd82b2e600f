// The C ABI's enumerators by name.
#ifndef SPLITOP_PYTHON_NAMES_H_
#define SPLITOP_PYTHON_NAMES_H_

#include <pybind11/pybind11.h>

#include <string>

namespace splitop {

template <typename Enum>
Enum from_name(const std::string& name, const char* (*name_of)(Enum), int count, const char* what) {
  std::string known;
  for (int i = 0; i < count; ++i) {
    const char* candidate = name_of(static_cast<Enum>(i));
    if (name == candidate) return static_cast<Enum>(i);
    known += std::string(i > 0 ? ", " : "") + candidate;
  }
  throw pybind11::value_error(std::string(what) + " must be one of " + known +
                              ". Received: " + name);
}

}  // namespace splitop

#endif  // SPLITOP_PYTHON_NAMES_H_
