// A product of matrices for each member of a batch, on the CPU.
#include "splitop/batched_product.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/errors.h"
#include "python/scratch.h"
#include "python/threads.h"

namespace py = pybind11;

namespace splitop {
namespace {

// Extents or strides, in elements.
std::vector<int64_t> extents(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}
std::vector<int64_t> strides(const py::array& array) {
  std::vector<int64_t> strides(array.strides(), array.strides() + array.ndim());
  for (int64_t& stride : strides) stride /= array.itemsize();
  return strides;
}

// The elements of a bias; NULL: there is none.
template <typename T>
const void* bias_data(const std::optional<py::array>& bias, int64_t cols) {
  if (!bias) return nullptr;
  if (py::isinstance<py::array_t<T, py::array::c_style>>(*bias) && bias->ndim() == 1 &&
      bias->shape(0) == cols) {
    return bias->data();
  }
  throw py::value_error("bias must be a contiguous array of " +
                        std::string(py::str(py::dtype::of<T>())) + " and shape (" +
                        std::to_string(cols) +
                        ",). Received: " + std::string(py::str(bias->dtype())) + " and " +
                        std::string(py::str(bias->attr("shape"))));
}

py::array batched_product(const py::array& a, const py::array& b,
                          const std::optional<py::array>& bias, bool relu, int num_threads) {
  std::vector<int64_t> shape = extents(a);
  const std::vector<int64_t> of_b = extents(b);
  const size_t rank = shape.size();
  if (rank < 2 || of_b.size() != rank || shape[rank - 1] != of_b[rank - 2] ||
      !std::equal(shape.begin(), shape.end() - 2, of_b.begin())) {
    throw py::value_error("a and b must be [..., rows, depth] and [..., depth, cols]. Received: " +
                          std::string(py::str(a.attr("shape"))) + " and " +
                          std::string(py::str(b.attr("shape"))));
  }
  const bool is_double = py::isinstance<py::array_t<double>>(a);
  if (!(is_double
            ? py::isinstance<py::array_t<double>>(b)
            : py::isinstance<py::array_t<float>>(a) && py::isinstance<py::array_t<float>>(b))) {
    throw py::type_error("a and b must both be of float32 or of float64. Received: " +
                         std::string(py::str(a.dtype())) + " and " +
                         std::string(py::str(b.dtype())));
  }
  shape[rank - 1] = of_b[rank - 1];
  py::array c(a.dtype(), shape);
  const std::vector<int64_t> a_strides = strides(a), b_strides = strides(b), c_strides = strides(c);
  splitop_batched_product product = {};
  product.dtype = is_double ? SPLITOP_FLOAT64 : SPLITOP_FLOAT32;
  product.num_batch_dims = static_cast<int32_t>(rank) - 2;
  product.batch = shape.data();
  product.a_batch = a_strides.data();
  product.b_batch = b_strides.data();
  product.c_batch = c_strides.data();
  product.rows = shape[rank - 2];
  product.cols = shape[rank - 1];
  product.depth = of_b[rank - 2];
  product.a = a.data();
  product.a_row = a_strides[rank - 2];
  product.a_depth = a_strides[rank - 1];
  product.b = b.data();
  product.b_depth = b_strides[rank - 2];
  product.b_col = b_strides[rank - 1];
  product.bias =
      is_double ? bias_data<double>(bias, product.cols) : bias_data<float>(bias, product.cols);
  product.activation = relu ? SPLITOP_RELU : SPLITOP_LINEAR;
  product.c = c.mutable_data();
  product.c_row = c_strides[rank - 2];
  raise_unless_ok(
      run_with_scratch<splitop_cpu_batched_product_scratch_bytes, splitop_cpu_batched_product>(
          product, threads_executor(num_threads)));
  return c;
}

}  // namespace

void bind_batched_product(py::module_& module) {
  module.def("batched_product", &batched_product, py::arg("a"), py::arg("b"), py::kw_only(),
             py::arg("bias") = py::none(), py::arg("relu") = false, py::arg("num_threads") = 1,
             "a @ b + bias, with relu its positive part, for float32 or float64 arrays [..., rows, "
             "depth] and [..., depth, cols] with "
             "any strides; nothing is broadcast.\n\nRaises ValueError or TypeError.");
}

}  // namespace splitop
