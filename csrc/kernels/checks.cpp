#include "kernels/checks.h"

#include <algorithm>
#include <limits>

#include "kernels/update_rules.h"

namespace splitop {
namespace {

bool valid_variable(const splitop_variable& variable, int32_t num_slots) {
  return variable.value != nullptr && std::all_of(variable.slots, variable.slots + num_slots,
                                                  [](const void* slot) { return slot != nullptr; });
}

bool valid_layer(const splitop_dense_chain& chain, int32_t l, int32_t num_slots) {
  const splitop_dense_layer& layer = chain.layers[l];
  if (layer.inputs < 1 || layer.outputs < 1) return false;
  if (l > 0 && layer.outputs != chain.layers[l - 1].inputs) return false;
  if (layer.activation < 0 || layer.activation >= SPLITOP_NUM_ACTIVATIONS) return false;
  if (reads_input(chain, l) && layer.x == nullptr) return false;
  if (reads_reference(chain, l) && layer.reference == nullptr) return false;
  if (mixed_precision(chain) && needs_input_gradient(chain, l) && layer.kernel_copy == nullptr) {
    return false;
  }
  if (!valid_variable(layer.kernel, num_slots)) return false;
  return layer.bias.value == nullptr || valid_variable(layer.bias, num_slots);
}

// A matrix that can be: the bytes of all its elements can be counted.
bool valid_matrix(int64_t rows, int64_t width, size_t element_bytes) {
  if (rows < 0 || width < 0) return false;
  const int64_t most = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(element_bytes);
  return width == 0 || rows <= most / width;
}

bool known(splitop_index_type type) { return type >= 0 && type < SPLITOP_NUM_INDEX_TYPES; }

bool valid_bags(const splitop_table_update& table) {
  if (table.gradient_row == nullptr) {
    return table.gradient_rows == table.num_ids && table.combiner == SPLITOP_COMBINER_SUM;
  }
  return known(table.gradient_row_type) && table.combiner >= 0 &&
         table.combiner < SPLITOP_NUM_COMBINERS;
}

bool valid_table(const splitop_table_update& table, size_t element_bytes, int32_t num_slots) {
  if (!valid_matrix(table.rows, table.width, element_bytes) ||
      !valid_matrix(table.gradient_rows, table.width, element_bytes) || table.num_ids < 0) {
    return false;
  }
  if (!known(table.id_type) || (table.num_ids > 0 && table.ids == nullptr)) return false;
  if (table.scope < 0 || table.scope >= SPLITOP_NUM_ROW_SCOPES || !valid_bags(table)) return false;
  if (table.variable.clip != nullptr) return false;
  const bool no_gradient = table.gradient_rows == 0 || table.width == 0;
  if (!no_gradient && table.gradient == nullptr) return false;
  return table.rows == 0 || table.width == 0 || valid_variable(table.variable, num_slots);
}

bool valid_tensor(const splitop_tensor_update& tensor, splitop_update_rule rule) {
  if (tensor.count == 0) return true;
  if (tensor.count < 0 || tensor.gradient == nullptr) return false;
  const bool rowwise = splitop_is_rowwise(rule) != 0;
  if (rowwise && (tensor.rows < 1 || tensor.count % tensor.rows != 0)) return false;
  return valid_variable(tensor.variable, splitop_num_slots(rule));
}

// Types, sizes and layers of a chain; not its rule.
bool valid_layers(const splitop_dense_chain& chain, int32_t num_slots) {
  if (chain.num_layers < 1 || chain.layers == nullptr) return false;
  if (chain.batch < 1 || chain.seed == nullptr) return false;
  if (!valid_types(chain.dtype, chain.variable_dtype)) return false;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    if (!valid_layer(chain, l, num_slots)) return false;
  }
  return true;
}

bool valid_float(splitop_dtype dtype) {
  return dtype == SPLITOP_FLOAT32 || dtype == SPLITOP_FLOAT64;
}

bool valid_window(const splitop_window& window) {
  return window.input >= 0 && window.output >= 0 && window.filter >= 1 && window.stride >= 1 &&
         window.dilation >= 1;
}

// Whether it is not dilated, and each of its places has a part of the image.
bool valid_pool(const splitop_window& window) {
  if (!valid_window(window) || window.dilation != 1 || window.before < 0) return false;
  if (window.output == 0) return true;
  return window.before < window.filter &&
         (window.output - 1) * window.stride - window.before < window.input;
}

bool valid_shapes(const splitop_image_shapes& shapes) {
  return valid_float(shapes.dtype) && shapes.batch >= 0 && shapes.channels >= 1 &&
         shapes.filters >= 1 && valid_window(shapes.rows) && valid_window(shapes.columns);
}

bool has_input(const splitop_image_shapes& shapes) {
  return shapes.batch * shapes.rows.input * shapes.columns.input > 0;
}

bool has_output(const splitop_image_shapes& shapes) {
  return shapes.batch * shapes.rows.output * shapes.columns.output > 0;
}

}  // namespace

bool valid_types(splitop_dtype tensors, splitop_dtype variables) {
  if (tensors == variables) return valid_float(variables);
  return splitop_dtype_bytes(tensors) == 2 && variables == SPLITOP_FLOAT32;
}

bool valid(const splitop_dense_chain* chain) {
  if (chain == nullptr || chain->hyper == nullptr) return false;
  const int32_t num_slots = splitop_num_slots(chain->rule);
  return num_slots >= 0 && valid_layers(*chain, num_slots);
}

bool valid(const splitop_dense_sweep* sweep) {
  if (sweep == nullptr || sweep->gradients == nullptr) return false;
  if (sweep->norms < 0 || sweep->norms >= SPLITOP_NUM_NORMS) return false;
  if (sweep->norms != SPLITOP_NORMS_NONE && sweep->squared_norms == nullptr) return false;
  if (sweep->norms != SPLITOP_NORMS_EXACT && sweep->kernel_gradients != nullptr) return false;
  return valid_layers(swept_chain(*sweep), 0) &&
         std::all_of(sweep->gradients, sweep->gradients + sweep->num_layers,
                     [](const void* gradient) { return gradient != nullptr; });
}

bool valid(const splitop_squared_norms* norms) {
  if (norms == nullptr || norms->num_tensors < 0 || !valid_float(norms->dtype)) return false;
  if (norms->num_tensors == 0) return true;
  if (norms->counts == nullptr || norms->tensors == nullptr || norms->squared_norms == nullptr) {
    return false;
  }
  for (int32_t i = 0; i < norms->num_tensors; ++i) {
    const int64_t count = norms->counts[i];
    if (count < 0 || (count > 0 && norms->tensors[i] == nullptr)) return false;
  }
  return true;
}

splitop_dense_chain swept_chain(const splitop_dense_sweep& sweep) {
  splitop_dense_chain chain = {};
  chain.dtype = sweep.dtype;
  chain.variable_dtype = splitop_dtype_bytes(sweep.dtype) == 2 ? SPLITOP_FLOAT32 : sweep.dtype;
  chain.batch = sweep.batch;
  chain.num_layers = sweep.num_layers;
  chain.layers = sweep.layers;
  chain.seed = sweep.seed;
  chain.rule = SPLITOP_SGD;
  chain.input_gradient = sweep.input_gradient;
  return chain;
}

bool valid(const splitop_multi_tensor_update* update) {
  if (update == nullptr || update->num_tensors < 0) return false;
  if (update->num_tensors > 0 && update->tensors == nullptr) return false;
  if (!valid_types(update->gradient_dtype, update->variable_dtype)) return false;
  if (update->hyper == nullptr || splitop_num_slots(update->rule) < 0) return false;
  return std::all_of(
      update->tensors, update->tensors + update->num_tensors,
      [update](const splitop_tensor_update& tensor) { return valid_tensor(tensor, update->rule); });
}

bool valid(const splitop_multi_table_update* update) {
  if (update == nullptr || update->num_tables < 0) return false;
  if (update->num_tables > 0 && update->tables == nullptr) return false;
  if (!valid_float(update->dtype)) return false;
  const int32_t num_slots = splitop_num_slots(update->rule);
  if (update->hyper == nullptr || num_slots < 0) return false;
  const size_t element_bytes = splitop_dtype_bytes(update->dtype);
  const bool can_sum_squares = with_update_rule<float>(
      update->rule, [](auto tag) { return decltype(tag)::Rule::kSumsSquares; });
  return std::all_of(update->tables, update->tables + update->num_tables,
                     [=](const splitop_table_update& table) {
                       return valid_table(table, element_bytes, num_slots) &&
                              (table.sums_squares == 0 || can_sum_squares);
                     });
}

bool valid(const splitop_table_lookup* lookup) {
  if (lookup == nullptr || lookup->num_ids < 0 || !known(lookup->id_type)) return false;
  if (!valid_matrix(lookup->rows, lookup->row_bytes, 1) ||
      !valid_matrix(lookup->num_ids, lookup->row_bytes, 1)) {
    return false;
  }
  if (lookup->num_ids == 0) return true;
  if (lookup->ids == nullptr) return false;
  return lookup->row_bytes == 0 ||
         (lookup->result != nullptr && (lookup->rows == 0 || lookup->table != nullptr));
}

bool valid(const splitop_batched_product* product) {
  if (product == nullptr || !valid_float(product->dtype) || product->num_batch_dims < 0 ||
      product->rows < 0 || product->cols < 0 || product->depth < 0 ||
      (product->activation != SPLITOP_LINEAR && product->activation != SPLITOP_RELU)) {
    return false;
  }
  bool empty = product->rows == 0 || product->cols == 0;
  if (product->num_batch_dims > 0) {
    if (product->batch == nullptr || product->a_batch == nullptr || product->b_batch == nullptr ||
        product->c_batch == nullptr) {
      return false;
    }
    for (int32_t d = 0; d < product->num_batch_dims; ++d) {
      if (product->batch[d] < 0) return false;
      if (product->batch[d] == 0) empty = true;
    }
  }
  if (empty) return true;
  return product->c != nullptr &&
         (product->depth == 0 || (product->a != nullptr && product->b != nullptr));
}

bool valid(const splitop_layer_norm* norm) {
  if (norm == nullptr || !valid_float(norm->dtype) || norm->rows < 0 || norm->width < 1 ||
      norm->gamma == nullptr || norm->beta == nullptr) {
    return false;
  }
  return norm->rows == 0 || (norm->x != nullptr && norm->y != nullptr);
}

bool valid(const splitop_layer_norm_gradient* gradient) {
  if (gradient == nullptr || !valid_float(gradient->dtype) || gradient->rows < 0 ||
      gradient->width < 1 || gradient->gamma == nullptr || gradient->dgamma == nullptr ||
      gradient->dbeta == nullptr) {
    return false;
  }
  return gradient->rows == 0 ||
         (gradient->dy != nullptr && gradient->x != nullptr && gradient->dx != nullptr);
}

bool valid(const splitop_softmax* softmax) {
  if (softmax == nullptr || !valid_float(softmax->dtype) || softmax->rows < 0 ||
      softmax->width < 0) {
    return false;
  }
  return softmax->rows == 0 || softmax->width == 0 ||
         (softmax->x != nullptr && softmax->y != nullptr);
}

bool valid(const splitop_softmax_gradient* gradient) {
  if (gradient == nullptr || !valid_float(gradient->dtype) || gradient->rows < 0 ||
      gradient->width < 0) {
    return false;
  }
  return gradient->rows == 0 || gradient->width == 0 ||
         (gradient->dy != nullptr && gradient->y != nullptr && gradient->dx != nullptr);
}

bool valid(const splitop_convolution* convolution) {
  if (convolution == nullptr || !valid_shapes(convolution->shapes) ||
      convolution->filter == nullptr ||
      splitop_activation_name(convolution->activation) == nullptr) {
    return false;
  }
  if (has_input(convolution->shapes) && convolution->x == nullptr) return false;
  return !has_output(convolution->shapes) || convolution->y != nullptr;
}

bool valid(const splitop_filter_gradient* gradient) {
  if (gradient == nullptr || !valid_shapes(gradient->shapes) || gradient->dfilter == nullptr ||
      gradient->dbias == nullptr) {
    return false;
  }
  if (has_input(gradient->shapes) && gradient->x == nullptr) return false;
  return !has_output(gradient->shapes) || gradient->dz != nullptr;
}

bool valid(const splitop_image_gradient* gradient) {
  if (gradient == nullptr || !valid_shapes(gradient->shapes) || gradient->filter == nullptr) {
    return false;
  }
  if (has_input(gradient->shapes) && gradient->dx == nullptr) return false;
  return !has_output(gradient->shapes) || gradient->dz != nullptr;
}

bool valid(const splitop_max_pool_gradient* gradient) {
  if (gradient == nullptr || !valid_float(gradient->dtype) || gradient->batch < 0 ||
      gradient->channels < 1 || !valid_pool(gradient->rows) || !valid_pool(gradient->columns) ||
      (gradient->activation != SPLITOP_LINEAR && gradient->activation != SPLITOP_RELU)) {
    return false;
  }
  if (gradient->batch * gradient->rows.input * gradient->columns.input == 0) return true;
  if (gradient->x == nullptr || gradient->dz == nullptr) return false;
  return gradient->rows.output * gradient->columns.output == 0 || gradient->dy != nullptr;
}

}  // namespace splitop
