// A variable and its slots, from Python to the C ABI.
#ifndef SPLITOP_PYTHON_VARIABLES_H_
#define SPLITOP_PYTHON_VARIABLES_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "python/array_view.h"
#include "splitop/update_rule.h"

namespace splitop {

struct VariableSpec {
  splitop_update_rule rule;
  std::string dtype;
  Shape shape;
  std::string name;  // for messages, as the next one
  std::string slots_name;
};

// Checks that value and slots are writeable arrays as specified.
splitop_variable to_variable(Arrays& arrays, const VariableSpec& spec, const ArrayView& value,
                             const std::vector<pybind11::object>& slots, bool decayed);

// Sets the clip of each variable to a row of `clips`, [variables, 2].
void set_variable_clips(Arrays& arrays, pybind11::handle clips, const std::string& dtype,
                        const std::vector<splitop_variable*>& variables);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_VARIABLES_H_
