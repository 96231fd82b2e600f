// The CUDA function behind Splitop>TableUpdate.
#ifndef SPLITOP_TF_TABLE_UPDATE_CUDA_H_
#define SPLITOP_TF_TABLE_UPDATE_CUDA_H_

#include <cstddef>

#include "splitop/cuda.h"
#include "splitop/status.h"
#include "splitop/table_update.h"

namespace splitop {

struct TableUpdateCuda {
  using Call = splitop_multi_table_update;

  static size_t ScratchBytes(const Call& update) {
    return splitop_cuda_table_update_scratch_bytes(&update);
  }

  static splitop_status Run(const Call& update, void* scratch, size_t bytes,
                            splitop_cuda_stream stream) {
    return splitop_cuda_table_update(&update, scratch, bytes, stream);
  }

  static const char* Details() { return ""; }
};

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_CUDA_H_
