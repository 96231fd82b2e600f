// Which instruction set the CPU kernels use, and what they take the caches to be.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/names.h"
#include "splitop/cpu.h"

namespace py = pybind11;

namespace splitop {
namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < SPLITOP_NUM_ISAS; ++i) {
    const auto isa = static_cast<splitop_cpu_isa>(i);
    if (splitop_cpu_isa_available(isa)) names.emplace_back(splitop_cpu_isa_name(isa));
  }
  return names;
}

void select_isa(const std::string& name) {
  const splitop_cpu_isa isa = from_name(name, splitop_cpu_isa_name, SPLITOP_NUM_ISAS, "isa");
  if (splitop_cpu_select_isa(isa) != SPLITOP_OK) {
    throw py::value_error(
        "this machine or this build does not have the instruction set. Received: " + name);
  }
}

}  // namespace

void bind_isas(py::module_& module) {
  module.def("available_isas", &available_isas,
             "Instruction sets that this build and machine have.");
  module.def(
      "isa_in_use", [] { return splitop_cpu_isa_name(splitop_cpu_isa_in_use()); },
      "The instruction set that the CPU kernels use.");
  module.def("select_isa", &select_isa, py::arg("name"),
             "Makes the CPU kernels of this process use an available instruction set.");
  module.def("cache_ways", &splitop_cpu_cache_ways,
             "The ways of the first-level data cache that the CPU kernels reckon with.");
  module.def("set_cache_ways", &splitop_cpu_set_cache_ways, py::arg("ways"),
             "Makes the CPU kernels of this process reckon with other ways.");
}

}  // namespace splitop
