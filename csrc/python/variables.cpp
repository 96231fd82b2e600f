#include "python/variables.h"

namespace py = pybind11;

namespace splitop {

splitop_variable to_variable(Arrays& arrays, const VariableSpec& spec, const ArrayView& value,
                             const std::vector<py::object>& slots, bool decayed) {
  const size_t num_slots = splitop_num_slots(spec.rule);
  if (slots.size() != num_slots) {
    throw py::value_error(spec.slots_name + " must have " + std::to_string(num_slots) +
                          " arrays for the rule. Received: " + std::to_string(slots.size()));
  }
  splitop_variable variable{};
  variable.value = arrays.output(value, spec.dtype, spec.shape, spec.name);
  for (size_t s = 0; s < num_slots; ++s) {
    variable.slots[s] = arrays.output(slots[s], spec.dtype, spec.shape,
                                      spec.slots_name + "[" + std::to_string(s) + "]");
  }
  variable.decayed = decayed;
  return variable;
}

}  // namespace splitop
