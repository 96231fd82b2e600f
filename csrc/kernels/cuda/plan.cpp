#include "splitop/cuda_plan.h"

#include "kernels/checks.h"
#include "kernels/cuda/chain_rules.h"
#include "kernels/cuda/strategy.h"

namespace splitop::cuda {
namespace {

bool valid(const splitop_cuda_device* device, const splitop_cuda_layer* layer,
           const splitop_cuda_options* options) {
  return device != nullptr && device->num_sms > 0 && device->clock_hz > 0 &&
         device->memory_bandwidth > 0 && layer != nullptr && layer->batch > 0 &&
         layer->inputs > 0 && layer->outputs > 0 &&
         valid_types(layer->dtype, layer->variable_dtype) && splitop_num_slots(layer->rule) >= 0 &&
         options != nullptr && options->strategy >= 0 &&
         options->strategy < SPLITOP_NUM_CUDA_STRATEGIES;
}

}  // namespace
}  // namespace splitop::cuda

splitop_status splitop_cuda_plan_layer(const splitop_cuda_device* device,
                                       const splitop_cuda_layer* layer,
                                       const splitop_cuda_options* options,
                                       splitop_cuda_layer_plan* plan) {
  using namespace splitop::cuda;
  if (!valid(device, layer, options) || plan == nullptr) return SPLITOP_INVALID_ARGUMENT;
  const Situation situation{*device,
                            layer->dtype,
                            layer->variable_dtype,
                            layer->rule,
                            options->allow_tf32 != 0,
                            options->use_cublas != 0};
  const LayerShape shape{layer->batch, layer->inputs, layer->outputs};
  WeightUpdatePlan update;
  if (!is_chain_rule(layer->rule) ||
      !plan_weight_update(situation, shape, options->strategy, &update)) {
    return SPLITOP_UNSUPPORTED;
  }
  const ProductPlan product = plan_product(situation, shape);
  *plan = {};
  plan->strategy = update.strategy;
  plan->large_tile = update.large_tile;
  plan->chunk_rows = update.chunk_rows;
  for (int s = 0; s < SPLITOP_NUM_CUDA_STRATEGIES; ++s) {
    const auto strategy = static_cast<splitop_cuda_strategy>(s);
    plan->expected_seconds[s] = expected_seconds(
        situation, shape, strategy == SPLITOP_CUDA_AUTO ? update.strategy : strategy);
  }
  plan->product_by_cublas = product.cublas;
  plan->product_splits = product.splits;
  return SPLITOP_OK;
}
