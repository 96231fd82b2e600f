// The C function behind Splitop>MultiTensorUpdate, with the arguments that CpuCall gives.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_CPU_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_CPU_H_

#include <cstddef>
#include <cstdint>

#include "splitop/executor.h"
#include "splitop/multi_tensor_update.h"
#include "splitop/status.h"

namespace splitop {

inline size_t NoScratch(const splitop_multi_tensor_update*, int32_t) { return 0; }

inline splitop_status RunMultiTensorUpdate(const splitop_multi_tensor_update* update, void*, size_t,
                                           const splitop_executor* executor) {
  return splitop_cpu_multi_tensor_update(update, executor);
}

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_CPU_H_
