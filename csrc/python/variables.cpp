#include "python/variables.h"

#include "splitop/dtype.h"

namespace py = pybind11;

namespace splitop {
namespace {

Shape slot_shape(const VariableSpec& spec) {
  if (!splitop_is_rowwise(spec.rule) || spec.shape.empty()) return spec.shape;
  return {spec.shape[0]};
}

}  // namespace

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
    variable.slots[s] = arrays.output(slots[s], spec.dtype, slot_shape(spec),
                                      spec.slots_name + "[" + std::to_string(s) + "]");
  }
  variable.decayed = decayed;
  return variable;
}

void set_variable_clips(Arrays& arrays, py::handle clips, const std::string& dtype,
                        const std::vector<splitop_variable*>& variables) {
  const auto count = static_cast<int64_t>(variables.size());
  const auto* clip = static_cast<const char*>(arrays.input(clips, dtype, {count, 2}, "clips"));
  const size_t bytes = 2 * (dtype == splitop_dtype_name(SPLITOP_FLOAT64) ? 8 : 4);
  for (int64_t v = 0; v < count; ++v) variables[v]->clip = clip + bytes * v;
}

}  // namespace splitop
