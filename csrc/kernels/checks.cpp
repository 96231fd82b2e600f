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
  if (layer.inputs < 1 || layer.outputs < 1 || layer.x == nullptr) return false;
  if (l > 0 && layer.outputs != chain.layers[l - 1].inputs) return false;
  if (layer.activation < 0 || layer.activation >= SPLITOP_NUM_ACTIVATIONS) return false;
  if (layer.activation != SPLITOP_LINEAR && layer.reference == nullptr) return false;
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
  const bool no_gradient = table.gradient_rows == 0 || table.width == 0;
  if (!no_gradient && table.gradient == nullptr) return false;
  return table.rows == 0 || table.width == 0 || valid_variable(table.variable, num_slots);
}

}  // namespace

bool valid_types(splitop_dtype tensors, splitop_dtype variables) {
  if (tensors == variables) {
    return variables == SPLITOP_FLOAT32 || variables == SPLITOP_FLOAT64;
  }
  return splitop_dtype_bytes(tensors) == 2 && variables == SPLITOP_FLOAT32;
}

bool valid(const splitop_dense_chain* chain) {
  if (chain == nullptr || chain->num_layers < 1 || chain->layers == nullptr) return false;
  if (!valid_types(chain->dtype, chain->variable_dtype)) return false;
  const int32_t num_slots = splitop_num_slots(chain->rule);
  if (chain->batch < 1 || chain->seed == nullptr || chain->hyper == nullptr || num_slots < 0) {
    return false;
  }
  for (int32_t l = 0; l < chain->num_layers; ++l) {
    if (!valid_layer(*chain, l, num_slots)) return false;
  }
  return true;
}

bool valid(const splitop_multi_tensor_update* update) {
  if (update == nullptr || update->num_tensors < 0) return false;
  if (update->num_tensors > 0 && update->tensors == nullptr) return false;
  if (!valid_types(update->gradient_dtype, update->variable_dtype)) return false;
  const int32_t num_slots = splitop_num_slots(update->rule);
  if (update->hyper == nullptr || num_slots < 0) return false;
  return std::all_of(update->tensors, update->tensors + update->num_tensors,
                     [num_slots](const splitop_tensor_update& tensor) {
                       return tensor.count == 0 ||
                              (tensor.count > 0 && tensor.gradient != nullptr &&
                               valid_variable(tensor.variable, num_slots));
                     });
}

bool valid(const splitop_multi_table_update* update) {
  if (update == nullptr || update->num_tables < 0) return false;
  if (update->num_tables > 0 && update->tables == nullptr) return false;
  if (update->dtype != SPLITOP_FLOAT32 && update->dtype != SPLITOP_FLOAT64) return false;
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

}  // namespace splitop
