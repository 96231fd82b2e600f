// Convolutions of images, and the gradients of these and of max pooling, on the CPU.
#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <utility>

#include "python/bindings.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/numpy_view.h"
#include "python/scratch.h"
#include "python/threads.h"
#include "splitop/convolution.h"
#include "splitop/max_pool.h"

namespace py = pybind11;

namespace splitop {
namespace {

using Pair = std::pair<int64_t, int64_t>;  // of rows and of columns

// How a window goes over an image.
struct Steps {
  Pair strides, dilations;
  std::pair<Pair, Pair> padding;  // before and after, of rows and of columns
};

splitop_dtype float_type(const std::string& dtype, const char* what) {
  return from_name(dtype, splitop_dtype_name, SPLITOP_NUM_DTYPES, what);
}

splitop_window window(int64_t input, int64_t filter, int64_t stride, int64_t dilation,
                      const Pair& padding) {
  const int64_t rest = input + padding.first + padding.second - (filter - 1) * dilation - 1;
  const int64_t output = stride > 0 && rest >= 0 ? rest / stride + 1 : 0;
  return {input, output, filter, stride, dilation, padding.first};
}

void check_images(const ArrayView& x, const std::string& name) {
  if (x.shape.size() == 4) return;
  throw py::value_error(name + " must be [batch, rows, columns, channels]. Received: shape " +
                        to_string(x.shape));
}

// filter_shape: [rows, columns, channels, filters].
splitop_image_shapes image_shapes(const Shape& x, const Shape& filter_shape,
                                  const std::string& dtype, const Steps& steps) {
  if (filter_shape.size() != 4 || filter_shape[2] != x[3]) {
    throw py::value_error("filter must be [rows, columns, " + std::to_string(x[3]) +
                          ", filters]. Received: shape " + to_string(filter_shape));
  }
  splitop_image_shapes shapes = {};
  shapes.dtype = float_type(dtype, "the type of x");
  shapes.batch = x[0];
  shapes.channels = x[3];
  shapes.filters = filter_shape[3];
  shapes.rows = window(x[1], filter_shape[0], steps.strides.first, steps.dilations.first,
                       steps.padding.first);
  shapes.columns = window(x[2], filter_shape[1], steps.strides.second, steps.dilations.second,
                          steps.padding.second);
  return shapes;
}

Shape output_shape(const splitop_image_shapes& shapes) {
  return {shapes.batch, shapes.rows.output, shapes.columns.output, shapes.filters};
}

py::array convolution(const py::array& x, const py::array& filter, const py::object& bias,
                      const std::string& activation, double alpha, const Pair& strides,
                      const Pair& dilations, const std::pair<Pair, Pair>& padding,
                      int num_threads) {
  Arrays arrays(numpy_view);
  const ArrayView images = arrays.view(x, "x"), weights = arrays.view(filter, "filter");
  check_images(images, "x");
  splitop_convolution call = {};
  call.shapes =
      image_shapes(images.shape, weights.shape, images.dtype, {strides, dilations, padding});
  call.x = arrays.input(images, images.dtype, images.shape, "x");
  call.filter = arrays.input(weights, images.dtype, weights.shape, "filter");
  if (!bias.is_none()) call.bias = arrays.input(bias, images.dtype, {call.shapes.filters}, "bias");
  call.activation =
      from_name(activation, splitop_activation_name, SPLITOP_NUM_ACTIVATIONS, "activation");
  call.alpha = alpha;
  py::array y(x.dtype(), output_shape(call.shapes));
  call.y = y.mutable_data();
  raise_unless_ok(run_with_scratch<splitop_cpu_convolution_scratch_bytes, splitop_cpu_convolution>(
      call, threads_executor(num_threads)));
  return y;
}

std::pair<py::array, py::array> filter_gradient(const py::array& x, const py::array& dz,
                                                const Pair& size, const Pair& strides,
                                                const Pair& dilations,
                                                const std::pair<Pair, Pair>& padding,
                                                int num_threads) {
  Arrays arrays(numpy_view);
  const ArrayView images = arrays.view(x, "x"), gradient = arrays.view(dz, "dz");
  check_images(images, "x");
  check_images(gradient, "dz");
  const Shape filter_shape{size.first, size.second, images.shape[3], gradient.shape[3]};
  splitop_filter_gradient call = {};
  call.shapes =
      image_shapes(images.shape, filter_shape, images.dtype, {strides, dilations, padding});
  call.x = arrays.input(images, images.dtype, images.shape, "x");
  call.dz = arrays.input(gradient, images.dtype, output_shape(call.shapes), "dz");
  py::array dfilter(x.dtype(), filter_shape), dbias(x.dtype(), Shape{filter_shape[3]});
  call.dfilter = dfilter.mutable_data();
  call.dbias = dbias.mutable_data();
  raise_unless_ok(
      run_with_scratch<splitop_cpu_filter_gradient_scratch_bytes, splitop_cpu_filter_gradient>(
          call, threads_executor(num_threads)));
  return {std::move(dfilter), std::move(dbias)};
}

py::array image_gradient(const py::array& dz, const py::array& filter, const Pair& size,
                         const Pair& strides, const Pair& dilations,
                         const std::pair<Pair, Pair>& padding, int num_threads) {
  Arrays arrays(numpy_view);
  const ArrayView gradient = arrays.view(dz, "dz"), weights = arrays.view(filter, "filter");
  check_images(gradient, "dz");
  check_images(weights, "filter");
  const Shape shape{gradient.shape[0], size.first, size.second, weights.shape[2]};
  splitop_image_gradient call = {};
  call.shapes = image_shapes(shape, weights.shape, gradient.dtype, {strides, dilations, padding});
  call.filter = arrays.input(weights, gradient.dtype, weights.shape, "filter");
  call.dz = arrays.input(gradient, gradient.dtype, output_shape(call.shapes), "dz");
  py::array dx(dz.dtype(), shape);
  call.dx = dx.mutable_data();
  raise_unless_ok(
      run_with_scratch<splitop_cpu_image_gradient_scratch_bytes, splitop_cpu_image_gradient>(
          call, threads_executor(num_threads)));
  return dx;
}

py::array max_pool_gradient(const py::array& x, const py::array& dy, const Pair& size,
                            const std::string& activation, const Pair& strides,
                            const std::pair<Pair, Pair>& padding, int num_threads) {
  Arrays arrays(numpy_view);
  const ArrayView images = arrays.view(x, "x"), gradient = arrays.view(dy, "dy");
  check_images(images, "x");
  const Shape& shape = images.shape;
  splitop_max_pool_gradient call = {};
  call.dtype = float_type(images.dtype, "the type of x");
  call.batch = shape[0];
  call.channels = shape[3];
  call.rows = window(shape[1], size.first, strides.first, 1, padding.first);
  call.columns = window(shape[2], size.second, strides.second, 1, padding.second);
  call.x = arrays.input(images, images.dtype, shape, "x");
  call.dy = arrays.input(gradient, images.dtype,
                         {shape[0], call.rows.output, call.columns.output, shape[3]}, "dy");
  call.activation =
      from_name(activation, splitop_activation_name, SPLITOP_NUM_ACTIVATIONS, "activation");
  py::array dz(x.dtype(), shape);
  call.dz = dz.mutable_data();
  const splitop_executor executor = threads_executor(num_threads);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status = splitop_cpu_max_pool_gradient(&call, &executor);
  }
  raise_unless_ok(status);
  return dz;
}

constexpr Pair kOnes{1, 1};
constexpr std::pair<Pair, Pair> kNone{{0, 0}, {0, 0}};

}  // namespace

void bind_images(py::module_& module) {
  module.def("convolution", &convolution, py::arg("x"), py::arg("filter"),
             py::arg("bias") = py::none(), py::kw_only(), py::arg("activation") = "linear",
             py::arg("alpha") = 0.0, py::arg("strides") = kOnes, py::arg("dilations") = kOnes,
             py::arg("padding") = kNone, py::arg("num_threads") = 1,
             "act(z + bias), z a convolution of x, [batch, rows, columns, channels], with a "
             "filter, [rows, columns, channels, filters], of float32 or float64. padding: before "
             "and after, of rows and of columns.\n\nRaises ValueError or TypeError.");
  module.def("filter_gradient", &filter_gradient, py::arg("x"), py::arg("dz"), py::arg("size"),
             py::kw_only(), py::arg("strides") = kOnes, py::arg("dilations") = kOnes,
             py::arg("padding") = kNone, py::arg("num_threads") = 1,
             "The gradients of the filter, whose rows and columns are given, and of the bias."
             "\n\nRaises ValueError or TypeError.");
  module.def("image_gradient", &image_gradient, py::arg("dz"), py::arg("filter"), py::arg("size"),
             py::kw_only(), py::arg("strides") = kOnes, py::arg("dilations") = kOnes,
             py::arg("padding") = kNone, py::arg("num_threads") = 1,
             "The gradient of x, whose rows and columns are given, for strides of 1.\n\nRaises "
             "ValueError or TypeError, and NotImplementedError for wider strides.");
  module.def("max_pool_gradient", &max_pool_gradient, py::arg("x"), py::arg("dy"), py::arg("size"),
             py::kw_only(), py::arg("activation") = "linear", py::arg("strides") = kOnes,
             py::arg("padding") = kNone, py::arg("num_threads") = 1,
             "The gradient of z, where x = act(z), [batch, rows, columns, channels], is max pooled "
             "over windows of a size, given that of the result; act is linear or relu.\n\nRaises "
             "ValueError or TypeError.");
}

}  // namespace splitop
