#include "python/dtypes.h"

namespace splitop {

splitop_dtype dtype_of(const ArrayView& array, std::initializer_list<splitop_dtype> known,
                       const std::string& name) {
  std::string names;
  for (const splitop_dtype* dtype = known.begin(); dtype != known.end(); ++dtype) {
    if (array.dtype == splitop_dtype_name(*dtype)) return *dtype;
    if (dtype != known.begin()) names += dtype + 1 == known.end() ? " or " : ", ";
    names += splitop_dtype_name(*dtype);
  }
  throw pybind11::type_error(name + " must have dtype " + names + ". Received: " + array.dtype);
}

splitop_dtype variable_dtype_for(splitop_dtype dtype) {
  return splitop_dtype_bytes(dtype) == 2 ? SPLITOP_FLOAT32 : dtype;
}

}  // namespace splitop
