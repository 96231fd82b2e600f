// splitop.lib._kernels: the C ABI on NumPy arrays, without TensorFlow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "splitop/cpu.h"
#include "splitop/dense_chain.h"

namespace py = pybind11;

namespace {

// ---- names ----

template <typename Enum>
Enum from_name(const std::string& name, const char* (*name_of)(Enum), int count, const char* what) {
  std::string known;
  for (int i = 0; i < count; ++i) {
    const char* candidate = name_of(static_cast<Enum>(i));
    if (name == candidate) return static_cast<Enum>(i);
    known += std::string(i > 0 ? ", " : "") + candidate;
  }
  throw py::value_error(std::string(what) + " must be one of " + known + ". Received: " + name);
}

// ---- threads ----

// Starts and joins plain threads: enough for tests. Inside TensorFlow its pool is used.
void run_on_threads(void*, int32_t num_workers, void (*body)(void*, int32_t), void* body_context) {
  std::vector<std::thread> threads;
  for (int32_t worker = 1; worker < num_workers; ++worker) {
    threads.emplace_back(body, body_context, worker);
  }
  body(body_context, 0);
  for (std::thread& thread : threads) thread.join();
}

// ---- arrays ----

using Shape = std::vector<py::ssize_t>;

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

void require(const py::array& array, const py::dtype& dtype, const Shape& shape, bool writeable,
             const std::string& name) {
  if (!array.dtype().is(dtype)) {
    throw py::type_error(name + " must have dtype " + std::string(py::str(dtype)) +
                         ". Received: " + std::string(py::str(array.dtype())));
  }
  if (shape_of(array) != shape) {
    throw py::value_error(name + " must have shape " + to_string(shape) +
                          ". Received: " + to_string(shape_of(array)));
  }
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::value_error(name + " must be contiguous in row-major order. Received: strides " +
                          to_string(Shape(array.strides(), array.strides() + array.ndim())));
  }
  if (writeable && !array.writeable()) {
    throw py::value_error(name + " must be writeable. Received: a read-only array");
  }
}

// ---- layers ----

struct Layer {
  py::array x;
  py::array kernel;
  std::vector<py::array> kernel_slots;
  std::optional<py::array> bias;
  std::vector<py::array> bias_slots;
  std::string activation;
  double alpha;
  std::optional<py::array> reference;
  bool kernel_decayed;
  bool bias_decayed;
};

class Converter {
 public:
  Converter(const py::array& seed, splitop_update_rule rule) : dtype_(seed.dtype()), rule_(rule) {
    if (seed.ndim() != 2) {
      throw py::value_error("seed must have 2 dimensions. Received: shape " +
                            to_string(shape_of(seed)));
    }
    batch_ = seed.shape(0);
  }

  splitop_dense_layer layer(const Layer& from, size_t index) const {
    const std::string name = "layers[" + std::to_string(index) + "].";
    if (from.kernel.ndim() != 2) {
      throw py::value_error(name + "kernel must have 2 dimensions. Received: shape " +
                            to_string(shape_of(from.kernel)));
    }
    splitop_dense_layer to{};
    to.inputs = from.kernel.shape(0);
    to.outputs = from.kernel.shape(1);
    to.activation =
        from_name(from.activation, splitop_activation_name, SPLITOP_NUM_ACTIVATIONS, "activation");
    to.alpha = from.alpha;
    to.x = input(from.x, {batch_, to.inputs}, name + "x");
    if (to.activation != SPLITOP_LINEAR) {
      if (!from.reference) {
        throw py::value_error(name + "reference must be given for " + from.activation +
                              ". Received: None");
      }
      to.reference = input(*from.reference, {batch_, to.outputs}, name + "reference");
    }
    to.kernel = variable(from.kernel, from.kernel_slots, {to.inputs, to.outputs}, name + "kernel");
    to.kernel.decayed = from.kernel_decayed;
    if (from.bias) {
      to.bias = variable(*from.bias, from.bias_slots, {to.outputs}, name + "bias");
      to.bias.decayed = from.bias_decayed;
    }
    return to;
  }

  const void* input(const py::array& array, const Shape& shape, const std::string& name) const {
    require(array, dtype_, shape, false, name);
    return array.data();
  }

 private:
  splitop_variable variable(const py::array& value, const std::vector<py::array>& slots,
                            const Shape& shape, const std::string& name) const {
    const size_t num_slots = splitop_num_slots(rule_);
    if (slots.size() != num_slots) {
      throw py::value_error(name + "_slots must have " + std::to_string(num_slots) +
                            " arrays for the rule. Received: " + std::to_string(slots.size()));
    }
    splitop_variable to{};
    to.value = output(value, shape, name);
    for (size_t s = 0; s < num_slots; ++s) {
      to.slots[s] = output(slots[s], shape, name + "_slots[" + std::to_string(s) + "]");
    }
    return to;
  }

  void* output(const py::array& array, const Shape& shape, const std::string& name) const {
    require(array, dtype_, shape, true, name);
    return const_cast<void*>(array.data());
  }

  py::dtype dtype_;
  splitop_update_rule rule_;
  py::ssize_t batch_;
};

splitop_dtype dtype_of(const py::array& seed) {
  if (seed.dtype().is(py::dtype::of<float>())) return SPLITOP_FLOAT32;
  if (seed.dtype().is(py::dtype::of<double>())) return SPLITOP_FLOAT64;
  throw py::type_error("seed must have dtype float32 or float64. Received: " +
                       std::string(py::str(seed.dtype())));
}

std::optional<py::array> dense_chain(const py::array& seed, const std::vector<Layer>& layers,
                                     const std::string& rule, const py::array& hyper,
                                     bool input_gradient, int num_threads) {
  splitop_dense_chain chain{};
  chain.dtype = dtype_of(seed);
  chain.variable_dtype = chain.dtype;
  chain.rule = from_name(rule, splitop_update_rule_name, SPLITOP_NUM_UPDATE_RULES, "rule");
  const Converter converter(seed, chain.rule);
  std::vector<splitop_dense_layer> c_layers;
  for (size_t l = 0; l < layers.size(); ++l) {
    c_layers.push_back(converter.layer(layers[l], l));
    if (l > 0 && c_layers[l].outputs != c_layers[l - 1].inputs) {
      throw py::value_error("layers[" + std::to_string(l) + "].kernel must have " +
                            std::to_string(c_layers[l - 1].inputs) +
                            " columns, the inputs of the layer above. Received: " +
                            std::to_string(c_layers[l].outputs));
    }
  }
  if (layers.empty()) throw py::value_error("layers must not be empty. Received: []");
  if (seed.shape(0) < 1) throw py::value_error("seed must have at least one row. Received: 0");
  if (num_threads < 1) {
    throw py::value_error("num_threads must be at least 1. Received: " +
                          std::to_string(num_threads));
  }
  chain.batch = seed.shape(0);
  chain.num_layers = static_cast<int32_t>(layers.size());
  chain.layers = c_layers.data();
  chain.seed = converter.input(seed, {chain.batch, c_layers[0].outputs}, "seed");
  chain.hyper = converter.input(hyper, {splitop_num_hyper(chain.rule)}, "hyper");
  std::optional<py::array> result;
  if (input_gradient) {
    result = py::array(seed.dtype(), Shape{chain.batch, c_layers.back().inputs});
    chain.input_gradient = result->mutable_data();
  }
  splitop_status status;
  {
    const py::gil_scoped_release release;
    const size_t bytes = splitop_cpu_dense_chain_scratch_bytes(&chain, num_threads);
    const std::unique_ptr<void, void (*)(void*)> scratch(
        std::aligned_alloc(64, (bytes + 63) / 64 * 64), std::free);
    if (scratch == nullptr) throw std::bad_alloc();
    const splitop_executor executor{num_threads, run_on_threads, nullptr};
    status = splitop_cpu_dense_chain(&chain, scratch.get(), bytes, &executor);
  }
  if (status != SPLITOP_OK) throw py::value_error(splitop_status_message(status));
  return result;
}

// ---- instruction sets ----

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

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "The CPU kernels of splitop on NumPy arrays, without TensorFlow.";

  py::class_<Layer>(m, "Layer",
                    "A dense layer y = activation(x @ kernel + bias).\n\n"
                    "x: [batch, inputs]. kernel: [inputs, outputs]. bias: [outputs] or None.\n"
                    "kernel_slots, bias_slots: the optimizer's state, of the variable's shape.\n"
                    "reference: [batch, outputs], what the activation's gradient reads: its\n"
                    "output y, but its input for leaky_relu and softplus; None where linear.\n"
                    "Arrays are contiguous and of one dtype; kernel, bias and slots are updated\n"
                    "in place.")
      .def(py::init<py::array, py::array, std::vector<py::array>, std::optional<py::array>,
                    std::vector<py::array>, std::string, double, std::optional<py::array>, bool,
                    bool>(),
           py::arg("x"), py::arg("kernel"), py::arg("kernel_slots") = std::vector<py::array>(),
           py::kw_only(), py::arg("bias") = std::nullopt,
           py::arg("bias_slots") = std::vector<py::array>(), py::arg("activation") = "linear",
           py::arg("alpha") = 0.0, py::arg("reference") = std::nullopt,
           py::arg("kernel_decayed") = false, py::arg("bias_decayed") = false);

  m.def("dense_chain", &dense_chain, py::arg("seed"), py::arg("layers"), py::kw_only(),
        py::arg("rule"), py::arg("hyper"), py::arg("input_gradient") = false,
        py::arg("num_threads") = 1,
        "Seeded backward pass and update of a chain of dense layers, in place.\n\n"
        "seed: dL/dy of the first layer, [batch, outputs], float32 or float64.\n"
        "layers: Layer objects from the top (next to the intermediate vector) down.\n"
        "rule: 'sgd', 'momentum' or 'adam'; hyper: its scalars (splitop/update_rule.h).\n"
        "Returns dL/dx of the last layer, [batch, inputs], if input_gradient, else None.\n"
        "Raises ValueError or TypeError, before anything is written.");

  m.def("available_isas", &available_isas, "Instruction sets that this build and machine have.");
  m.def(
      "isa_in_use", [] { return splitop_cpu_isa_name(splitop_cpu_isa_in_use()); },
      "The instruction set that the kernels use.");
  m.def("select_isa", &select_isa, py::arg("name"),
        "Makes the kernels of this process use an available instruction set.");
}
