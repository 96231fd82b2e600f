// The update of embedding tables on CUDA devices.
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/device_scratch.h"
#include "python/device_view.h"
#include "python/errors.h"
#include "python/table_arguments.h"
#include "splitop/table_update.h"

namespace py = pybind11;

namespace splitop {
namespace {

void cuda_table_update(const std::vector<Table>& tables, const std::string& rule, py::handle hyper,
                       py::handle scratch, int64_t stream) {
  require_cuda();
  const splitop_cuda_stream on_stream = cuda_stream(stream);
  TableArguments arguments(device_viewer(stream), tables, rule, hyper);
  const size_t needed = splitop_cuda_table_update_scratch_bytes(&arguments.update());
  const ArrayView memory = device_scratch(arguments.arrays(), scratch, needed);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status = splitop_cuda_table_update(&arguments.update(), memory.data, memory.size(), on_stream);
  }
  raise_unless_ok(status);
}

size_t cuda_table_update_scratch_bytes(const std::vector<Table>& tables, const std::string& rule,
                                       py::handle hyper, int64_t stream) {
  require_cuda();
  cuda_stream(stream);
  const TableArguments arguments(device_viewer(stream), tables, rule, hyper);
  return splitop_cuda_table_update_scratch_bytes(&arguments.update());
}

}  // namespace

void bind_cuda_table_update(py::module_& module) {
  module.def("cuda_table_update", &cuda_table_update, py::arg("tables"), py::kw_only(),
             py::arg("rule"), py::arg("hyper"), py::arg("scratch") = py::none(),
             py::arg("stream") = 0,
             "table_update on the current CUDA device, enqueued on a stream.\n\n"
             "All arrays are in the device's memory, as for cuda_dense_chain. Ids out of range\n"
             "update nothing, and a gradient_row that is too large adds nothing.\n"
             "scratch: uint8, aligned to 256 bytes, as long as cuda_table_update_scratch_bytes\n"
             "says.");
  module.def("cuda_table_update_scratch_bytes", &cuda_table_update_scratch_bytes, py::arg("tables"),
             py::kw_only(), py::arg("rule"), py::arg("hyper"), py::arg("stream") = 0,
             "Length of the scratch that the same call of cuda_table_update needs.");
}

}  // namespace splitop
