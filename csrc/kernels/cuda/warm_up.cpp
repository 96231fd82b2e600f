// All that a call may have to create or to load, ahead of time.
#include <vector>

#include "kernels/cuda/chain_rules.h"
#include "kernels/cuda/cublas.h"
#include "kernels/cuda/current_device.h"
#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/multi_tensor_update.h"
#include "kernels/cuda/queue.h"
#include "kernels/cuda/scalars.h"
#include "kernels/cuda/table_kernels.h"
#include "splitop/cuda.h"

namespace splitop::cuda {
namespace {

constexpr bool kBoth[] = {false, true};

// Runs the steps until one fails.
class WarmUp {
 public:
  splitop_status run() {
    for (const auto* kernels : {&dense_chain_kernels_float32(), &dense_chain_kernels_tf32(),
                                &dense_chain_kernels_float64(), &dense_chain_kernels_bfloat16(),
                                &dense_chain_kernels_float16()}) {
      load_chain(*kernels);
    }
    load_updates(SPLITOP_FLOAT64, SPLITOP_FLOAT64);
    for (const auto gradient : {SPLITOP_FLOAT32, SPLITOP_BFLOAT16, SPLITOP_FLOAT16}) {
      load_updates(gradient, SPLITOP_FLOAT32);
    }
    for (const auto dtype : {SPLITOP_FLOAT32, SPLITOP_FLOAT64}) {
      step([&] { return enqueue_scalars(dtype, nullptr, nullptr, kLoadsOnly); });
    }
    for (const auto* kernels : {&table_kernels_float32(), &table_kernels_float64()}) {
      load_tables(*kernels);
    }
    if (cublas_found()) step(cublas_prepare);
    return status_;
  }

 private:
  template <typename Step>
  void step(const Step& step) {
    if (status_ == SPLITOP_OK) status_ = step();
  }

  template <typename Work>
  static void for_each_elementwise_rule(const Work& work) {
    for (int number = 0; number < SPLITOP_NUM_UPDATE_RULES; ++number) {
      const auto rule = static_cast<splitop_update_rule>(number);
      if (!splitop_is_rowwise(rule)) work(rule);
    }
  }

  // What decides between kernels is set; there are no tensors.
  void load_chain(const DenseChainKernels& kernels) {
    for (const bool aligned : kBoth) {
      for (const bool of_sums : kBoth) {
        GradientArgs args = {};
        args.rows_per_block = 1;
        args.source_of_sums = of_sums;
        args.aligned = aligned;
        step([&] { return kernels.gradient(args, kLoadsOnly); });
      }
      for (const bool large : kBoth) load_tiles(kernels, aligned, large);
    }
  }

  void load_tiles(const DenseChainKernels& kernels, bool aligned, bool large) {
    ProductArgs product = {};
    product.aligned = aligned;
    product.large_tile = large;
    step([&] { return kernels.product(product, kLoadsOnly); });
    for (int rule = 0; rule < SPLITOP_NUM_UPDATE_RULES; ++rule) {
      WeightUpdateArgs update = {};
      update.rule = static_cast<splitop_update_rule>(rule);
      if (!is_chain_rule(update.rule)) continue;
      update.aligned = aligned;
      update.large_tile = large;
      step([&] { return kernels.weight_update(update, kLoadsOnly); });
    }
  }

  void load_updates(splitop_dtype gradient, splitop_dtype variable) {
    for_each_elementwise_rule([&](splitop_update_rule rule) {
      for (const int count : kUpdateTables) {
        const std::vector<TensorUpdate> updates(count);
        step([&] {
          return enqueue_updates(gradient, variable, rule, nullptr, updates, kLoadsOnly);
        });
      }
    });
  }

  void load_tables(const TableKernels& kernels) {
    for (const int count : kTableLists) {
      const std::vector<TableEntry> entries(count);
      step([&] { return enqueue_ids(entries, 1, nullptr, nullptr, nullptr, kLoadsOnly); });
    }
    step([&] { return kernels.bag_factors({}, 1, kLoadsOnly); });
    for_each_elementwise_rule([&](splitop_update_rule rule) {
      for (const auto kernel : {kernels.rows, kernels.long_rows, kernels.rest}) {
        step([&] { return kernel(rule, {}, 1, kLoadsOnly); });
      }
    });
  }

  splitop_status status_ = SPLITOP_OK;
};

}  // namespace
}  // namespace splitop::cuda

int32_t splitop_cuda_has_cublas(void) { return splitop::cuda::cublas_found(); }

splitop_status splitop_cuda_warm_up(void) {
  splitop_cuda_device device;
  if (!splitop::cuda::current_device(&device)) return SPLITOP_UNSUPPORTED;
  return splitop::cuda::WarmUp().run();
}
