// What the CUDA dispatch decides for a layer; works without CUDA.
#include "splitop/cuda_plan.h"

#include <string>

#include "python/bindings.h"
#include "python/errors.h"
#include "python/names.h"

namespace py = pybind11;

namespace splitop {
namespace {

splitop_cuda_device to_device(const py::dict& facts) {
  splitop_cuda_device device = {};
  device.compute_capability = facts["compute_capability"].cast<int32_t>();
  device.num_sms = facts["num_sms"].cast<int32_t>();
  device.l2_bytes = facts["l2_bytes"].cast<int64_t>();
  device.clock_hz = facts["clock_hz"].cast<int64_t>();
  device.memory_bandwidth = facts["memory_bandwidth"].cast<int64_t>();
  return device;
}

py::dict expected_seconds(const splitop_cuda_layer_plan& plan) {
  py::dict seconds;
  for (int s = 0; s < SPLITOP_NUM_CUDA_STRATEGIES; ++s) {
    seconds[splitop_cuda_strategy_name(static_cast<splitop_cuda_strategy>(s))] =
        plan.expected_seconds[s];
  }
  return seconds;
}

py::dict cuda_plan(const py::dict& device, int64_t batch, int64_t inputs, int64_t outputs,
                   const std::string& dtype, const std::string& variable_dtype,
                   const std::string& rule, bool allow_tf32, bool use_cublas,
                   const std::string& strategy) {
  const splitop_cuda_device facts = to_device(device);
  const splitop_cuda_layer layer{
      batch,
      inputs,
      outputs,
      from_name(dtype, splitop_dtype_name, SPLITOP_NUM_DTYPES, "dtype"),
      from_name(variable_dtype, splitop_dtype_name, SPLITOP_NUM_DTYPES, "variable_dtype"),
      from_name(rule, splitop_update_rule_name, SPLITOP_NUM_UPDATE_RULES, "rule")};
  const splitop_cuda_options options{
      allow_tf32, use_cublas,
      from_name(strategy, splitop_cuda_strategy_name, SPLITOP_NUM_CUDA_STRATEGIES, "strategy")};
  splitop_cuda_layer_plan plan;
  raise_unless_ok(splitop_cuda_plan_layer(&facts, &layer, &options, &plan));
  return py::dict(py::arg("strategy") = splitop_cuda_strategy_name(plan.strategy),
                  py::arg("large_tile") = plan.large_tile != 0,
                  py::arg("chunk_rows") = plan.chunk_rows,
                  py::arg("expected_seconds") = expected_seconds(plan),
                  py::arg("product_by_cublas") = plan.product_by_cublas != 0,
                  py::arg("product_splits") = plan.product_splits);
}

}  // namespace

void bind_cuda_plan(py::module_& module) {
  module.def(
      "cuda_plan", &cuda_plan, py::arg("device"), py::arg("batch"), py::arg("inputs"),
      py::arg("outputs"), py::kw_only(), py::arg("dtype") = "float32",
      py::arg("variable_dtype") = "float32", py::arg("rule"), py::arg("allow_tf32") = true,
      py::arg("use_cublas") = true, py::arg("strategy") = "auto",
      "What cuda_dense_chain would do for a layer [inputs, outputs] (splitop/cuda_plan.h).\n\n"
      "device: one of cuda_devices(), or such a dict of a device that is not here.\n"
      "use_cublas: as if cuBLAS were there.\n"
      "Returns strategy, large_tile, chunk_rows, expected_seconds by strategy,\n"
      "product_by_cublas, product_splits.\n"
      "Raises NotImplementedError if the strategy asked for can't be had.");
}

}  // namespace splitop
