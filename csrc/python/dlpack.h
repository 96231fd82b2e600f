// DLPack's binary interface (https://dmlc.github.io/dlpack): what a capsule points to.
#ifndef SPLITOP_PYTHON_DLPACK_H_
#define SPLITOP_PYTHON_DLPACK_H_

#include <cstddef>
#include <cstdint>

namespace splitop::dlpack {

enum DeviceType : int32_t { kCpu = 1, kCuda = 2, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Tensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t type_code;
  uint8_t type_bits;
  uint16_t type_lanes;
  int64_t* shape;
  int64_t* strides;  // in elements; may be null: contiguous
  uint64_t byte_offset;
};

// In a capsule named "dltensor".
struct ManagedTensor {
  Tensor tensor;
  void* manager_context;
  void (*deleter)(ManagedTensor*);  // may be null
};

// In a capsule named "dltensor_versioned".
struct VersionedTensor {
  uint32_t major;
  uint32_t minor;
  void* manager_context;
  void (*deleter)(VersionedTensor*);  // may be null
  uint64_t flags;
  Tensor tensor;
};

constexpr uint32_t kMajor = 1;  // what follows the deleter may differ under another one
constexpr uint64_t kReadOnly = 1;

static_assert(sizeof(void*) != 8 ||
              (sizeof(Tensor) == 48 && offsetof(Tensor, shape) == 24 &&
               sizeof(ManagedTensor) == 64 && offsetof(VersionedTensor, tensor) == 32));

}  // namespace splitop::dlpack

#endif  // SPLITOP_PYTHON_DLPACK_H_
