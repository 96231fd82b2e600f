// A dense chain from Python to the C ABI: all checks but those of the kernels themselves.
#ifndef SPLITOP_PYTHON_DENSE_CHAIN_ARGUMENTS_H_
#define SPLITOP_PYTHON_DENSE_CHAIN_ARGUMENTS_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "python/array_view.h"
#include "python/dense_layer.h"
#include "splitop/dense_chain.h"

namespace splitop {

class DenseChainArguments {
 public:
  DenseChainArguments(Arrays::Viewer viewer, pybind11::handle seed,
                      const std::vector<DenseLayer>& layers, const std::string& rule,
                      pybind11::handle hyper, bool input_gradient, bool forward = false);
  DenseChainArguments(const DenseChainArguments&) = delete;
  DenseChainArguments& operator=(const DenseChainArguments&) = delete;

  // For each kernel, then for each bias, a factor and a bound: [variables, 2].
  void set_clips(pybind11::handle clips);

  // Valid as long as this object; its input gradient is set by the caller.
  splitop_dense_chain& chain() { return chain_; }

  Arrays& arrays() { return arrays_; }
  const std::string& dtype() const { return dtype_; }
  Shape input_gradient_shape() const { return {chain_.batch, layers_.back().inputs}; }

 private:
  splitop_dense_layer layer(const DenseLayer& from, const std::string& name, bool x_is_computed);
  void set_variables(const DenseLayer& from, const ArrayView& kernel, const std::string& name,
                     splitop_dense_layer* to);
  const void* kernel_copy(const DenseLayer& from, const Shape& shape, const std::string& name);

  Arrays arrays_;
  splitop_dense_chain chain_{};
  std::vector<splitop_dense_layer> layers_;
  std::string dtype_;
  std::string variable_dtype_;
};

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DENSE_CHAIN_ARGUMENTS_H_
