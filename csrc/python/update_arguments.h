// A multi-tensor update from Python to the C ABI: all checks but those of the kernels themselves.
#ifndef SPLITOP_PYTHON_UPDATE_ARGUMENTS_H_
#define SPLITOP_PYTHON_UPDATE_ARGUMENTS_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "python/array_view.h"
#include "splitop/multi_tensor_update.h"

namespace splitop {

class UpdateArguments {
 public:
  using Objects = std::vector<pybind11::object>;

  UpdateArguments(Arrays::Viewer viewer, const Objects& gradients, const Objects& variables,
                  const std::vector<Objects>& slots, const std::string& rule,
                  pybind11::handle hyper, const std::vector<bool>& decayed);
  UpdateArguments(const UpdateArguments&) = delete;
  UpdateArguments& operator=(const UpdateArguments&) = delete;

  // For each variable a factor and a bound: [variables, 2].
  void set_clips(pybind11::handle clips);

  // Valid as long as this object.
  const splitop_multi_tensor_update& update() const { return update_; }

 private:
  Arrays arrays_;
  splitop_multi_tensor_update update_{};
  std::vector<splitop_tensor_update> tensors_;
};

}  // namespace splitop

#endif  // SPLITOP_PYTHON_UPDATE_ARGUMENTS_H_
