// Element types by the names that NumPy has for them.
#ifndef SPLITOP_PYTHON_DTYPES_H_
#define SPLITOP_PYTHON_DTYPES_H_

#include <initializer_list>
#include <string>

#include "python/array_view.h"
#include "splitop/dtype.h"

namespace splitop {

// The array's type; raises TypeError if it is none of those.
splitop_dtype dtype_of(const ArrayView& array, std::initializer_list<splitop_dtype> known,
                       const std::string& name);

// The type of the variables that tensors of this type go with.
splitop_dtype variable_dtype_for(splitop_dtype dtype);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DTYPES_H_
