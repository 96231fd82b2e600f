// A dense layer as Python gives it: any objects, not looked at before a kernel is called.
#ifndef SPLITOP_PYTHON_DENSE_LAYER_H_
#define SPLITOP_PYTHON_DENSE_LAYER_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace splitop {

struct DenseLayer {
  pybind11::object x;
  pybind11::object kernel;
  std::vector<pybind11::object> kernel_slots;
  pybind11::object bias;  // or None
  std::vector<pybind11::object> bias_slots;
  std::string activation;
  double alpha;
  pybind11::object reference;  // or None
  bool kernel_decayed;
  bool bias_decayed;
  pybind11::object kernel_copy;      // or None
  pybind11::object kernel_gradient;  // or None
};

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DENSE_LAYER_H_
