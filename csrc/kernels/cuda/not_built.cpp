// Every CUDA function of a build without CUDA, so that callers link and learn why nothing runs.
#include "splitop/cuda.h"
#include "splitop/dense_chain.h"
#include "splitop/multi_tensor_update.h"
#include "splitop/table_update.h"

splitop_cuda_state splitop_cuda_query(void) { return SPLITOP_CUDA_NOT_BUILT; }

int32_t splitop_cuda_built_version(void) { return 0; }

int32_t splitop_cuda_driver_version(void) { return 0; }

int32_t splitop_cuda_num_devices(void) { return 0; }

splitop_status splitop_cuda_get_device(int32_t, splitop_cuda_device*) {
  return SPLITOP_UNSUPPORTED;
}

int32_t splitop_cuda_has_cublas(void) { return 0; }

splitop_status splitop_cuda_warm_up(void) { return SPLITOP_UNSUPPORTED; }

const char* splitop_cuda_failure(void) { return ""; }

size_t splitop_cuda_dense_chain_scratch_bytes(const splitop_dense_chain*,
                                              const splitop_cuda_options*) {
  return 0;
}

splitop_status splitop_cuda_dense_chain(const splitop_dense_chain*, void*, size_t,
                                        const splitop_cuda_options*, splitop_cuda_stream) {
  return SPLITOP_UNSUPPORTED;
}

splitop_status splitop_cuda_multi_tensor_update(const splitop_multi_tensor_update*,
                                                splitop_cuda_stream) {
  return SPLITOP_UNSUPPORTED;
}

size_t splitop_cuda_table_update_scratch_bytes(const splitop_multi_table_update*) { return 0; }

splitop_status splitop_cuda_table_update(const splitop_multi_table_update*, void*, size_t,
                                         splitop_cuda_stream) {
  return SPLITOP_UNSUPPORTED;
}
