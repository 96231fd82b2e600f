// The dense chain on CUDA devices: what each layer is to do, its scratch, the order of launches.
#include "splitop/dense_chain.h"

#include <algorithm>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cuda/chain_rules.h"
#include "kernels/cuda/cublas.h"
#include "kernels/cuda/current_device.h"
#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/multi_tensor_update.h"
#include "kernels/cuda/scalars.h"
#include "kernels/cuda/strategy.h"
#include "splitop/cuda.h"

namespace splitop::cuda {
namespace {

constexpr size_t kAlignment = 256;  // of the parts of the scratch

size_t round_up(size_t a, size_t b) { return (a + b - 1) / b * b; }

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes == 0; }

// ---- the plan ----

struct LayerPlan {
  GradientPlan gradient;
  ProductPlan product;
  WeightUpdatePlan update;
  bool keeps_seed;        // G is the seed itself
  bool aligned_gradient;  // every row that the kernel touches starts at a multiple of 16 bytes
  bool aligned_product;
  bool aligned_update;
  bool last_of_update;  // the launch that updates this kernel, and some before it, comes next
  size_t gradient_at;   // place of G in the scratch
  size_t sums_at;       // of the bias's partial sums
};

// Places in the scratch, in bytes.
struct ScratchLayout {
  size_t gradients = 0;       // G of the layers whose updates are to come
  size_t input_gradient = 0;  // dL/dx before the activation's gradient
  size_t chunk = 0;           // of a weight gradient
  size_t scalars = 0;
  size_t workspace = 0;
  size_t total = 0;
};

struct ChainPlan {
  std::vector<LayerPlan> layers;
  GradientPlan output;  // turns the last dL/dx into the caller's, if it is not there yet
  bool direct_output;   // the last product writes into the caller's tensor
  bool aligned_output;
  bool cublas;  // for any of the layers
  ScratchLayout scratch;
};

// In mixed precision the forward pass has made a copy, of the tensors' type.
const void* kernel_to_read(const splitop_dense_chain& chain, const splitop_dense_layer& layer) {
  return mixed_precision(chain) ? layer.kernel_copy : layer.kernel.value;
}

class Planner {
 public:
  Planner(const splitop_dense_chain& chain, const splitop_cuda_options& options,
          const splitop_cuda_device& device)
      : chain_(chain), options_(options) {
    situation_.device = device;
    situation_.dtype = chain.dtype;
    situation_.variable_dtype = chain.variable_dtype;
    situation_.rule = chain.rule;
    situation_.tf32 = options.allow_tf32 != 0;
    situation_.cublas = options.use_cublas != 0 && cublas_found();
  }

  // False if the strategy asked for can't be had.
  bool run(ChainPlan* plan) const {
    plan->cublas = false;
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      LayerPlan layer = {};
      if (!plan_layer(l, &layer)) return false;
      plan->cublas = plan->cublas || layer.update.strategy != SPLITOP_CUDA_TILES ||
                     (needs_input_gradient(chain_, l) && layer.product.cublas);
      plan->layers.push_back(layer);
    }
    group_updates(plan);
    plan_output(plan);
    lay_out(plan);
    return true;
  }

 private:
  size_t element_bytes() const { return splitop_dtype_bytes(chain_.dtype); }
  size_t sum_bytes() const { return splitop_dtype_bytes(chain_.variable_dtype); }

  bool aligned_variable(const splitop_variable& variable) const {
    return aligned(variable.value) &&
           std::all_of(variable.slots, variable.slots + splitop_num_slots(chain_.rule),
                       [](const void* slot) { return aligned(slot); });
  }

  // What is chosen, and so the scratch, depends on the shapes only; what the pointers allow
  // decides between the wide and the narrow accesses of the kernel that was chosen.
  bool plan_layer(int32_t l, LayerPlan* plan) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerShape shape{chain_.batch, layer.inputs, layer.outputs};
    const bool outputs_aligned = aligned_rows(layer.outputs, chain_.dtype);
    const bool product_aligned =
        outputs_aligned && aligned_rows(layer.inputs, chain_.variable_dtype);
    const bool update_aligned = outputs_aligned && aligned_rows(layer.inputs, chain_.dtype);
    const bool above = l > 0 || aligned(chain_.seed);  // the scratch always is
    plan->keeps_seed = l == 0 && layer.activation == SPLITOP_LINEAR;
    plan->aligned_gradient = outputs_aligned && above &&
                             (layer.activation == SPLITOP_LINEAR || aligned(layer.reference));
    plan->gradient = plan_gradient(situation_, chain_.batch, layer.outputs);
    plan->product = plan_product(situation_, shape);
    plan->aligned_product = product_aligned && above && aligned(kernel_to_read(chain_, layer)) &&
                            (!direct_output(l, plan->product) || aligned(chain_.input_gradient));
    plan->aligned_update =
        update_aligned && above && aligned(layer.x) && aligned_variable(layer.kernel);
    return plan_weight_update(situation_, shape, options_.strategy, &plan->update);
  }

  // Small layers next to each other are updated by one launch, after dL/dx of all of them: as many
  // as leave their kernels in the L2 cache, where dL/dx has brought them, beside the gradients G
  // that wait for the launch.
  void group_updates(ChainPlan* plan) const {
    int count = 0;
    int64_t bytes = 0;
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      ++count;
      bytes += waiting_bytes(l);
      const bool joined = l + 1 < chain_.num_layers && count < kMaxLayersOfUpdate &&
                          bytes + waiting_bytes(l + 1) <= situation_.device.l2_bytes &&
                          joinable(plan->layers[l].update, plan->layers[l + 1].update);
      plan->layers[l].last_of_update = !joined;
      if (!joined) count = 0, bytes = 0;
    }
  }

  // Of a layer's kernel and of G.
  int64_t waiting_bytes(int32_t l) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    return layer.outputs * (static_cast<int64_t>(sum_bytes()) * layer.inputs +
                            static_cast<int64_t>(element_bytes()) * chain_.batch);
  }

  static bool joinable(const WeightUpdatePlan& a, const WeightUpdatePlan& b) {
    return a.strategy == SPLITOP_CUDA_TILES && b.strategy == SPLITOP_CUDA_TILES &&
           a.large_tile == b.large_tile;
  }

  // Whether the product writes into the caller's tensor. Ours makes sums: what is split or of 16
  // bits takes another pass.
  bool direct_output(int32_t l, const ProductPlan& product) const {
    return l + 1 == chain_.num_layers &&
           (product.cublas || (product.splits == 1 && element_bytes() == sum_bytes()));
  }

  void plan_output(ChainPlan* plan) const {
    const int32_t last = chain_.num_layers - 1;
    plan->direct_output = direct_output(last, plan->layers[last].product);
    const int64_t cols = chain_.layers[last].inputs;
    const bool rows = aligned_rows(cols, chain_.dtype);
    plan->output = plan_gradient(situation_, chain_.batch, cols);
    plan->aligned_output = rows && aligned(chain_.input_gradient);
  }

  void lay_out(ChainPlan* plan) const {
    size_t gradients = 0, input_gradient = 0, chunk = 0, sums = 0;
    size_t waiting = 0;  // bytes of G that the next update is to read
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      const splitop_dense_layer& layer = chain_.layers[l];
      LayerPlan& p = plan->layers[l];
      p.gradient_at = waiting;
      if (!p.keeps_seed) {
        waiting += round_up(element_bytes() * chain_.batch * layer.outputs, kAlignment);
        gradients = std::max(gradients, waiting);
      }
      if (p.last_of_update) waiting = 0;
      if (needs_input_gradient(chain_, l)) {
        const size_t bytes = p.product.cublas ? element_bytes() : p.product.splits * sum_bytes();
        input_gradient = std::max(input_gradient, bytes * chain_.batch * layer.inputs);
      }
      if (p.update.strategy == SPLITOP_CUDA_CHUNKS) {
        chunk = std::max(chunk, sum_bytes() * p.update.chunk_rows * layer.outputs);
      }
      p.sums_at = sums;
      if (layer.bias.value != nullptr) {
        sums += round_up(sum_bytes() * p.gradient.row_blocks * layer.outputs, kAlignment);
      }
    }
    ScratchLayout& scratch = plan->scratch;
    scratch.gradients = sums;
    scratch.input_gradient = scratch.gradients + gradients;
    scratch.chunk = scratch.input_gradient + round_up(input_gradient, kAlignment);
    scratch.scalars = scratch.chunk + round_up(chunk, kAlignment);
    scratch.workspace = scratch.scalars + kAlignment;
    scratch.total = scratch.workspace + (plan->cublas ? kCublasWorkspaceBytes : 0);
  }

  const splitop_dense_chain& chain_;
  const splitop_cuda_options& options_;
  Situation situation_;
};

const DenseChainKernels& kernels_for(splitop_dtype dtype, bool tf32) {
  switch (dtype) {
    case SPLITOP_FLOAT64:
      return dense_chain_kernels_float64();
    case SPLITOP_BFLOAT16:
      return dense_chain_kernels_bfloat16();
    case SPLITOP_FLOAT16:
      return dense_chain_kernels_float16();
    default:
      return tf32 ? dense_chain_kernels_tf32() : dense_chain_kernels_float32();
  }
}

// ---- the run ----

// dL/dy of a layer, or the chain's dL/dx, before the activation's gradient.
struct Source {
  const void* data;
  bool of_sums;
  int splits;
};

class ChainRun {
 public:
  ChainRun(const splitop_dense_chain& chain, const splitop_cuda_options& options,
           const ChainPlan& plan, void* scratch, const Queue& queue)
      : chain_(chain),
        plan_(plan),
        tf32_(options.allow_tf32 != 0),
        kernels_(kernels_for(chain.dtype, tf32_)),
        scratch_(static_cast<unsigned char*>(scratch)),
        queue_(queue) {}

  // W is read for dL/dx before its update: the stream keeps the order.
  splitop_status run() {
    if (plan_.cublas) enqueue_cublas_scalars();
    Source source{chain_.seed, chain_.dtype == chain_.variable_dtype, 1};
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      const void* const gradient = make_gradient(l, source);
      if (needs_input_gradient(chain_, l)) source = multiply(l, gradient);
      update_kernel(l, gradient);
    }
    if (chain_.input_gradient != nullptr && !plan_.direct_output) make_output(source);
    update_biases();
    return status_;
  }

 private:
  // Nothing more is enqueued after a failure.
  template <typename Work>
  void enqueue(const Work& work) {
    if (status_ == SPLITOP_OK) status_ = work();
  }

  void enqueue_product(const CublasProduct& product) {
    enqueue([&] { return cublas_multiply(product, scratch_ + plan_.scratch.workspace, queue_); });
  }

  void enqueue_cublas_scalars() {
    enqueue([&] {
      return enqueue_scalars(chain_.variable_dtype, chain_.hyper, scalar(kZero), queue_);
    });
  }

  void* scalar(Scalar which) const {
    return scratch_ + plan_.scratch.scalars + which * splitop_dtype_bytes(chain_.variable_dtype);
  }

  // G of the layer, and the partial sums for its bias.
  const void* make_gradient(int32_t l, const Source& source) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerPlan& plan = plan_.layers[l];
    GradientArgs args = {};
    args.batch = chain_.batch;
    args.cols = layer.outputs;
    args.source = source.data;
    args.source_of_sums = source.of_sums;
    args.splits = source.splits;
    args.activation = layer.activation;
    args.alpha = layer.alpha;
    args.reference = layer.reference;
    args.gradient =
        plan.keeps_seed ? nullptr : scratch_ + plan_.scratch.gradients + plan.gradient_at;
    args.sums = layer.bias.value != nullptr ? scratch_ + plan.sums_at : nullptr;
    args.rows_per_block = plan.gradient.rows_per_block;
    args.aligned = plan.aligned_gradient;
    if (args.gradient != nullptr || args.sums != nullptr) {
      enqueue([&] { return kernels_.gradient(args, queue_); });
    }
    return plan.keeps_seed ? chain_.seed : args.gradient;
  }

  // dL/dx of the layer.
  Source multiply(int32_t l, const void* gradient) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerPlan& plan = plan_.layers[l];
    const bool direct = l + 1 == chain_.num_layers && plan_.direct_output;
    void* const result = direct ? chain_.input_gradient : scratch_ + plan_.scratch.input_gradient;
    const void* const kernel = kernel_to_read(chain_, layer);
    if (plan.product.cublas) {
      enqueue_product({chain_.batch, layer.inputs, layer.outputs, Factor::kAsIs,
                       Factor::kTransposed, gradient, layer.outputs, kernel, layer.outputs, result,
                       layer.inputs, chain_.dtype, chain_.dtype, tf32_, scalar(kOne),
                       scalar(kZero)});
      return {result, chain_.dtype == chain_.variable_dtype, 1};
    }
    ProductArgs args = {};
    args.batch = chain_.batch;
    args.inputs = layer.inputs;
    args.outputs = layer.outputs;
    args.gradient = gradient;
    args.kernel = kernel;
    args.result = result;
    args.splits = plan.product.splits;
    args.split_depth = plan.product.split_depth;
    args.large_tile = plan.product.large_tile;
    args.aligned = plan.aligned_product;
    enqueue([&] { return kernels_.product(args, queue_); });
    return {result, true, args.splits};
  }

  void update_kernel(int32_t l, const void* gradient) {
    switch (plan_.layers[l].update.strategy) {
      case SPLITOP_CUDA_CHUNKS:
        return update_by_chunks(l, gradient);
      case SPLITOP_CUDA_ACCUMULATE:
        return update_by_accumulation(l, gradient);
      default:
        return update_by_tiles(l, gradient);
    }
  }

  // Waits for the other layers of its launch.
  void update_by_tiles(int32_t l, const void* gradient) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerPlan& plan = plan_.layers[l];
    if (update_.num_layers > 0 && update_.aligned != plan.aligned_update) flush_update();
    update_.batch = chain_.batch;
    update_.rule = chain_.rule;
    update_.hyper = chain_.hyper;
    update_.large_tile = plan.update.large_tile;
    update_.aligned = plan.aligned_update;
    update_.layers[update_.num_layers++] = {layer.inputs, layer.outputs, layer.x, gradient,
                                            layer.kernel};
    if (plan.last_of_update) flush_update();
  }

  void flush_update() {
    enqueue([&] { return kernels_.weight_update(update_, queue_); });
    update_.num_layers = 0;
  }

  // x^T G for rows [row, row + rows) of the kernel.
  CublasProduct rows_of_gradient(const splitop_dense_layer& layer, const void* gradient,
                                 int64_t row, int64_t rows) const {
    const auto* const x = static_cast<const unsigned char*>(layer.x);
    CublasProduct product = {};
    product.m = rows;
    product.n = layer.outputs;
    product.k = chain_.batch;
    product.op_a = Factor::kTransposed;
    product.op_b = Factor::kAsIs;
    product.a = x + row * splitop_dtype_bytes(chain_.dtype);
    product.pitch_a = layer.inputs;
    product.b = gradient;
    product.pitch_b = layer.outputs;
    product.pitch_c = layer.outputs;
    product.factor_dtype = chain_.dtype;
    product.result_dtype = chain_.variable_dtype;
    product.tf32 = tf32_;
    return product;
  }

  // The chunk is written and read again while it is in the L2 cache.
  void update_by_chunks(int32_t l, const void* gradient) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const int64_t chunk_rows = plan_.layers[l].update.chunk_rows;
    void* const chunk = scratch_ + plan_.scratch.chunk;
    for (int64_t row = 0; row < layer.inputs; row += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, layer.inputs - row);
      CublasProduct product = rows_of_gradient(layer, gradient, row, rows);
      product.c = chunk;
      product.alpha = scalar(kOne);
      product.beta = scalar(kZero);
      enqueue_product(product);
      const TensorUpdate update{chunk, 1, part(layer.kernel, row * layer.outputs),
                                rows * layer.outputs};
      enqueue([&] {
        return enqueue_updates(chain_.variable_dtype, chain_.variable_dtype, chain_.rule,
                               chain_.hyper, {update}, queue_);
      });
    }
  }

  // sgd: W = (1 - decay) W - lr x^T G
  void update_by_accumulation(int32_t l, const void* gradient) {
    const splitop_dense_layer& layer = chain_.layers[l];
    CublasProduct product = rows_of_gradient(layer, gradient, 0, layer.inputs);
    product.c = layer.kernel.value;
    product.alpha = scalar(kMinusLr);
    product.beta = scalar(layer.kernel.decayed ? kOneMinusDecay : kOne);
    enqueue_product(product);
  }

  // The variable from an element on.
  splitop_variable part(const splitop_variable& variable, int64_t element) const {
    const int64_t bytes = element * splitop_dtype_bytes(chain_.variable_dtype);
    splitop_variable result = variable;
    result.value = static_cast<unsigned char*>(variable.value) + bytes;
    for (int32_t s = 0; s < splitop_num_slots(chain_.rule); ++s) {
      result.slots[s] = static_cast<unsigned char*>(variable.slots[s]) + bytes;
    }
    return result;
  }

  void make_output(const Source& source) {
    GradientArgs args = {};
    args.batch = chain_.batch;
    args.cols = chain_.layers[chain_.num_layers - 1].inputs;
    args.source = source.data;
    args.source_of_sums = source.of_sums;
    args.splits = source.splits;
    args.activation = SPLITOP_LINEAR;
    args.gradient = chain_.input_gradient;
    args.rows_per_block = plan_.output.rows_per_block;
    args.aligned = plan_.aligned_output;
    enqueue([&] { return kernels_.gradient(args, queue_); });
  }

  // All biases of the chain at once.
  void update_biases() {
    std::vector<TensorUpdate> updates;
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      const splitop_dense_layer& layer = chain_.layers[l];
      if (layer.bias.value == nullptr) continue;
      const LayerPlan& plan = plan_.layers[l];
      updates.push_back(
          {scratch_ + plan.sums_at, plan.gradient.row_blocks, layer.bias, layer.outputs});
    }
    enqueue([&] {
      return enqueue_updates(chain_.variable_dtype, chain_.variable_dtype, chain_.rule,
                             chain_.hyper, updates, queue_);
    });
  }

  const splitop_dense_chain& chain_;
  const ChainPlan& plan_;
  const bool tf32_;
  const DenseChainKernels& kernels_;
  unsigned char* const scratch_;
  const Queue queue_;
  WeightUpdateArgs update_ = {};  // the layers that wait
  splitop_status status_ = SPLITOP_OK;
};

bool clips_or_has_gradients(const splitop_dense_chain& chain) {
  return std::any_of(chain.layers, chain.layers + chain.num_layers,
                     [](const splitop_dense_layer& layer) {
                       return layer.kernel.clip != nullptr || layer.bias.clip != nullptr ||
                              layer.kernel_gradient != nullptr;
                     });
}

splitop_status make_plan(const splitop_dense_chain* chain, const splitop_cuda_options* options,
                         ChainPlan* plan) {
  if (!valid(chain) || options == nullptr) return SPLITOP_INVALID_ARGUMENT;
  if (options->strategy < 0 || options->strategy >= SPLITOP_NUM_CUDA_STRATEGIES) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  splitop_cuda_device device;
  if (!current_device(&device) || !is_chain_rule(chain->rule) || clips_or_has_gradients(*chain) ||
      chain->forward) {
    return SPLITOP_UNSUPPORTED;
  }
  return Planner(*chain, *options, device).run(plan) ? SPLITOP_OK : SPLITOP_UNSUPPORTED;
}

}  // namespace
}  // namespace splitop::cuda

size_t splitop_cuda_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                              const splitop_cuda_options* options) {
  splitop::cuda::ChainPlan plan;
  return splitop::cuda::make_plan(chain, options, &plan) == SPLITOP_OK ? plan.scratch.total : 0;
}

splitop_status splitop_cuda_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                        size_t scratch_bytes, const splitop_cuda_options* options,
                                        splitop_cuda_stream stream) {
  splitop::cuda::ChainPlan plan;
  const splitop_status status = splitop::cuda::make_plan(chain, options, &plan);
  if (status != SPLITOP_OK) return status;
  if (scratch == nullptr || scratch_bytes < plan.scratch.total ||
      reinterpret_cast<uintptr_t>(scratch) % splitop::cuda::kAlignment != 0) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  return splitop::cuda::load_and_enqueue(stream, [&](const splitop::cuda::Queue& queue) {
    return splitop::cuda::ChainRun(*chain, *options, plan, scratch, queue).run();
  });
}
