// The dense chain on CPUs: checks, scratch, and the order of the parallel parts.
#include "splitop/dense_chain.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "splitop/cpu.h"

namespace splitop {
namespace {

constexpr size_t kAlignment = 64;

int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// ---- scratch ----

// Two gradients are alive at a time, the layer's and the one below it; each has a buffer by
// batch and one by column, in elements. Then every worker has its own part.
struct ScratchLayout {
  int64_t by_batch = 0;
  int64_t by_column = 0;
  int64_t worker = 0;
  int32_t num_workers = 1;  // more would find no task

  int64_t gradients() const { return 2 * (by_batch + by_column); }
  int64_t total() const { return gradients() + num_workers * worker; }
};

template <typename T>
ScratchLayout scratch_layout(const DenseChainKernels<T>& kernels, const splitop_dense_chain& chain,
                             int32_t num_workers) {
  const int64_t unit = kAlignment / sizeof(T);
  const int64_t padded_batch = round_up(chain.batch, kernels.tile_cols);
  ScratchLayout layout;
  int64_t tasks = 1;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    const splitop_dense_layer& layer = chain.layers[l];
    const int64_t padded_outputs = round_up(layer.outputs, kernels.tile_cols);
    layout.by_batch = std::max(layout.by_batch, round_up(chain.batch * padded_outputs, unit));
    const int64_t widest = std::max(layer.inputs, layer.outputs);
    if (needs_input_gradient(chain, l)) {
      layout.by_column = std::max(layout.by_column, round_up(padded_batch * widest, unit));
    }
    tasks = std::max(tasks, ceil_div(widest, kernels.tile_cols));
  }
  layout.worker = round_up(kernels.worker_scratch(chain.batch), unit);
  layout.num_workers = static_cast<int32_t>(std::min<int64_t>(num_workers, tasks));
  return layout;
}

// ---- parallel parts ----

// The size of a task's block: the one that leaves the busiest worker the least (a short last
// block counts as a whole one), the larger one where two are equal.
int64_t block_size(int64_t count, int64_t unit, int64_t largest, int32_t workers) {
  if (workers == 1) return largest;
  const auto busiest = [&](int64_t block) {
    return ceil_div(ceil_div(count, block), workers) * block;
  };
  int64_t best = largest;
  for (int64_t block = largest - unit; block >= unit; block -= unit) {
    if (busiest(block) < busiest(best)) best = block;
  }
  return best;
}

template <typename T>
class ChainRun {
 public:
  ChainRun(const DenseChainKernels<T>& kernels, const ScratchLayout& layout,
           const splitop_dense_chain& chain, void* scratch, const splitop_executor& executor)
      : kernels_(kernels),
        layout_(layout),
        chain_(chain),
        executor_(executor),
        scratch_(static_cast<T*>(scratch)) {}

  void run() {
    Gradient<T> gradient = gradient_of(0);
    top(gradient);
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      if (l + 1 < chain_.num_layers) {
        const Gradient<T> below = gradient_of(l + 1);
        layer(l, gradient, &below);
        gradient = below;
      } else if (chain_.input_gradient != nullptr) {
        const Gradient<T> below = output_gradient();
        layer(l, gradient, &below);
      } else {
        layer(l, gradient, nullptr);
      }
    }
  }

 private:
  Gradient<T> gradient_of(int32_t l) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    Gradient<T> g = buffers(l, layer.outputs);
    g.activation = layer.activation;
    g.alpha = static_cast<T>(layer.alpha);
    g.reference = static_cast<const T*>(layer.reference);
    g.bias = layer.bias;
    g.keep_by_column = needs_input_gradient(chain_, l);
    return g;
  }

  Gradient<T> output_gradient() const {
    const int32_t last = chain_.num_layers - 1;
    Gradient<T> g = buffers(last + 1, chain_.layers[last].inputs);
    g.output = static_cast<T*>(chain_.input_gradient);
    return g;
  }

  // Buffers alternate: the gradient at depth l and the one below it are alive together.
  Gradient<T> buffers(int32_t depth, int64_t cols) const {
    Gradient<T> g{};
    g.batch = chain_.batch;
    g.cols = cols;
    g.by_batch = scratch_ + (depth % 2) * layout_.by_batch;
    g.by_column = scratch_ + 2 * layout_.by_batch + (depth % 2) * layout_.by_column;
    return g;
  }

  void top(const Gradient<T>& gradient) const {
    const T* seed = static_cast<const T*>(chain_.seed);
    const T* hyper = static_cast<const T*>(chain_.hyper);
    // An element costs about as much as ten multiply-adds: loads, transposition, activation.
    const double flops = 20.0 * static_cast<double>(gradient.batch * gradient.cols);
    parallel_blocks(gradient.cols, flops, [&](int64_t begin, int64_t end, int32_t) {
      kernels_.top_columns(gradient, seed, begin, end, chain_.rule, hyper);
    });
  }

  void layer(int32_t l, const Gradient<T>& gradient, const Gradient<T>* below) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerJob<T> job{
        layer.inputs, layer.outputs, static_cast<const T*>(layer.x),     layer.kernel, &gradient,
        below,        chain_.rule,   static_cast<const T*>(chain_.hyper)};
    const double products = below != nullptr ? 2 : 1;
    const double flops = 2 * products * static_cast<double>(chain_.batch) *
                         static_cast<double>(layer.inputs) * static_cast<double>(layer.outputs);
    T* workers = scratch_ + layout_.gradients();
    parallel_blocks(layer.inputs, flops, [&](int64_t begin, int64_t end, int32_t worker) {
      kernels_.layer_rows(job, begin, end, workers + worker * layout_.worker);
    });
  }

  // Runs body(begin, end, worker) for blocks of [0, count).
  template <typename Body>
  void parallel_blocks(int64_t count, double flops, const Body& body) const {
    const int64_t block =
        block_size(count, kernels_.tile_cols, kernels_.max_row_block, layout_.num_workers);
    parallel_tasks(executor_, layout_.num_workers, ceil_div(count, block), flops,
                   [&](int64_t task, int32_t worker) {
                     const int64_t begin = task * block;
                     body(begin, std::min(begin + block, count), worker);
                   });
  }

  const DenseChainKernels<T>& kernels_;
  const ScratchLayout layout_;
  const splitop_dense_chain& chain_;
  const splitop_executor& executor_;
  T* const scratch_;
};

template <typename T>
size_t scratch_bytes(const splitop_dense_chain& chain, int32_t num_workers) {
  return sizeof(T) * scratch_layout(dense_chain_kernels<T>(), chain, num_workers).total();
}

// The instruction set is looked up once: another thread may select another one meanwhile.
template <typename T>
splitop_status run_chain(const splitop_dense_chain& chain, void* scratch, size_t scratch_bytes,
                         const splitop_executor& executor) {
  const DenseChainKernels<T>& table = dense_chain_kernels<T>();
  const ScratchLayout layout = scratch_layout(table, chain, executor.num_workers);
  if (scratch_bytes < sizeof(T) * layout.total()) return SPLITOP_INVALID_ARGUMENT;
  ChainRun<T>(table, layout, chain, scratch, executor).run();
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                             int32_t num_workers) {
  if (!splitop::valid(chain) || splitop::mixed_precision(*chain) || num_workers < 1) return 0;
  return chain->dtype == SPLITOP_FLOAT32 ? splitop::scratch_bytes<float>(*chain, num_workers)
                                         : splitop::scratch_bytes<double>(*chain, num_workers);
}

splitop_status splitop_cpu_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                       size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(chain) || scratch == nullptr || !splitop::valid(executor)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  if (splitop::mixed_precision(*chain)) return SPLITOP_UNSUPPORTED;
  return chain->dtype == SPLITOP_FLOAT32
             ? splitop::run_chain<float>(*chain, scratch, scratch_bytes, *executor)
             : splitop::run_chain<double>(*chain, scratch, scratch_bytes, *executor);
}
