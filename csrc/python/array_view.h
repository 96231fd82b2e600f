// The arrays of one call, whichever library they come from: what is in them, and the checks.
#ifndef SPLITOP_PYTHON_ARRAY_VIEW_H_
#define SPLITOP_PYTHON_ARRAY_VIEW_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace splitop {

using Shape = std::vector<int64_t>;

std::string to_string(const Shape& shape);

struct ArrayView {
  void* data = nullptr;
  std::string dtype;  // as NumPy names it: "float32", "bfloat16"
  int64_t itemsize = 0;
  Shape shape;
  Shape strides;  // in bytes; empty: contiguous in row-major order
  bool writeable = true;
  std::string device;           // "cpu", "cuda:0"; empty: the array does not tell
  std::shared_ptr<void> owner;  // keeps the memory while the view is used

  int64_t size() const;
  bool contiguous() const;
};

class Arrays {
 public:
  // Looks into an object; raises an error with its name if it is no such array.
  using Viewer = std::function<ArrayView(pybind11::handle object, const std::string& name)>;

  explicit Arrays(Viewer viewer) : viewer_(std::move(viewer)) {}

  // All arrays of a call have to be on the same device.
  ArrayView view(pybind11::handle object, const std::string& name);

  // The array's memory, valid as long as this object.
  const void* input(pybind11::handle object, const std::string& dtype, const Shape& shape,
                    const std::string& name);
  const void* input(const ArrayView& array, const std::string& dtype, const Shape& shape,
                    const std::string& name);
  void* output(pybind11::handle object, const std::string& dtype, const Shape& shape,
               const std::string& name);
  void* output(const ArrayView& array, const std::string& dtype, const Shape& shape,
               const std::string& name);

 private:
  Viewer viewer_;
  std::string device_;
  std::vector<std::shared_ptr<void>> owners_;
};

}  // namespace splitop

#endif  // SPLITOP_PYTHON_ARRAY_VIEW_H_
