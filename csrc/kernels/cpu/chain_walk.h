// The walk down a chain of dense layers that every CPU function of it makes: the gradients in the
// scratch, and how the work on a layer is cut into tasks.
#ifndef SPLITOP_KERNELS_CPU_CHAIN_WALK_H_
#define SPLITOP_KERNELS_CPU_CHAIN_WALK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "splitop/dense_chain.h"

namespace splitop {

constexpr size_t kScratchAlignment = 64;

// Two gradients are alive at a time, the layer's and the one below it; each has a buffer by
// batch and one by column, in elements. Then every worker has its own part. What the forward pass
// makes comes last.
struct ScratchLayout {
  int64_t by_batch = 0;
  int64_t by_column = 0;
  int64_t worker = 0;
  int32_t num_workers = 1;  // more would find no task
  int64_t activations = 0;
  int64_t sums = 0;  // of a deep layer's forward pass

  int64_t gradients() const { return 2 * (by_batch + by_column); }
  int64_t worker_at(int32_t index) const { return gradients() + index * worker; }
  int64_t first_activation() const { return worker_at(num_workers); }
  int64_t first_sum() const { return first_activation() + activations; }
  int64_t total() const { return first_sum() + sums; }
};

template <typename E>
ScratchLayout scratch_layout(const DenseChainKernels<E>& kernels, const splitop_dense_chain& chain,
                             int32_t num_workers) {
  const int64_t unit = kScratchAlignment / sizeof(Accumulator<E>);
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

// [0, count) in blocks of whole units, of at most `largest`: each worker's part on its own. The
// larger they are, the less often G is read; but workers are not equally fast, and one that waits
// for another costs more. So each block is a share of what is left of the part, and the last ones
// are small (guided self-scheduling: Polychronopoulos and Kuck, 1987). All but these are multiples
// of `preferred` units. The parts are about the workers' shares of the blocks (parallel.h).
class ShrinkingBlocks {
 public:
  ShrinkingBlocks(int64_t count, int64_t unit, int64_t preferred, int64_t largest,
                  int32_t workers) {
    const int64_t all = ceil_div(count, unit);
    for (int32_t worker = 0; worker < workers; ++worker) {
      const int64_t end = all * (worker + 1) / workers;
      for (int64_t at = all * worker / workers, units; at < end; at += units) {
        units = workers > 1 ? ceil_div(end - at, 2) : end - at;
        units = std::min(units, largest / unit);
        if (units > preferred) units -= units % preferred;
        begins_.push_back(at * unit);
      }
    }
    begins_.push_back(count);
  }

  int64_t number() const { return static_cast<int64_t>(begins_.size()) - 1; }
  int64_t begin(int64_t block) const { return begins_[block]; }

 private:
  std::vector<int64_t> begins_;
};

// Derived says what a layer's gradient is for, gradient_of(l), and what is done with it,
// layer(l, job, flops).
template <typename Derived, typename E>
class ChainWalk {
 public:
  using T = Accumulator<E>;

  ChainWalk(const DenseChainKernels<E>& kernels, const ScratchLayout& layout,
            const splitop_dense_chain& chain, void* scratch, const splitop_executor& executor)
      : kernels_(kernels),
        layout_(layout),
        chain_(chain),
        executor_(executor),
        scratch_(static_cast<T*>(scratch)) {}

  void run() {
    Gradient<E> gradient = derived().gradient_of(0);
    top(gradient);
    for (int32_t l = 0; l < chain_.num_layers; ++l) {
      if (l + 1 < chain_.num_layers) {
        const Gradient<E> below = derived().gradient_of(l + 1);
        visit(l, gradient, &below);
        gradient = below;
      } else if (chain_.input_gradient != nullptr) {
        const Gradient<E> below = input_gradient();
        visit(l, gradient, &below);
      } else {
        visit(l, gradient, nullptr);
      }
    }
  }

 protected:
  // G of a layer, in the scratch; its bias is not set.
  Gradient<E> layer_gradient(int32_t l) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    Gradient<E> g = buffers(l, layer.outputs);
    g.activation = layer.activation;
    g.alpha = static_cast<T>(layer.alpha);
    g.reference = static_cast<const E*>(layer.reference);
    g.by_batch = scratch_ + (l % 2) * layout_.by_batch;
    g.keep_by_column = needs_input_gradient(chain_, l);
    return g;
  }

  // Runs body(begin, end, worker) for blocks of [0, count).
  template <typename Body>
  void parallel_blocks(int64_t count, double flops, const Body& body) const {
    const int64_t whole_tiles = std::lcm(kernels_.tile_rows, kernels_.tile_cols);
    const ShrinkingBlocks blocks(count, kernels_.tile_cols, whole_tiles / kernels_.tile_cols,
                                 kernels_.max_row_block, layout_.num_workers);
    parallel_tasks(executor_, layout_.num_workers, blocks.number(), flops,
                   [&](int64_t task, int32_t worker) {
                     body(blocks.begin(task), blocks.begin(task + 1), worker);
                   });
  }

  T* worker_scratch(int32_t worker) const { return scratch_ + layout_.worker_at(worker); }

  const DenseChainKernels<E>& kernels_;
  const ScratchLayout layout_;
  const splitop_dense_chain& chain_;
  const splitop_executor& executor_;

 private:
  Derived& derived() { return static_cast<Derived&>(*this); }

  // dL/dx of the chain.
  Gradient<E> input_gradient() const {
    const int32_t last = chain_.num_layers - 1;
    Gradient<E> g = buffers(last + 1, chain_.layers[last].inputs);
    g.row_major = static_cast<E*>(chain_.input_gradient);
    return g;
  }

  // Buffers alternate: the gradient at depth l and the one below it are alive together.
  Gradient<E> buffers(int32_t depth, int64_t cols) const {
    Gradient<E> g{};
    g.batch = chain_.batch;
    g.cols = cols;
    g.by_column = scratch_ + 2 * layout_.by_batch + (depth % 2) * layout_.by_column;
    return g;
  }

  void top(const Gradient<E>& gradient) const {
    const bool is_read = gradient.by_batch != nullptr || gradient.keep_by_column ||
                         gradient.bias.value != nullptr || gradient.row_major != nullptr ||
                         gradient.column_sums != nullptr;
    if (!is_read) return;
    const E* seed = static_cast<const E*>(chain_.seed);
    const T* hyper = static_cast<const T*>(chain_.hyper);
    // An element costs about as much as ten multiply-adds: loads, transposition, activation.
    const double flops = 20.0 * static_cast<double>(gradient.batch * gradient.cols);
    parallel_blocks(gradient.cols, flops, [&](int64_t begin, int64_t end, int32_t) {
      kernels_.top_columns(gradient, seed, begin, end, chain_.rule, hyper);
    });
  }

  // flops: of one product of the layer.
  void visit(int32_t l, const Gradient<E>& gradient, const Gradient<E>* below) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const void* read = mixed_precision(chain_) ? layer.kernel_copy : layer.kernel.value;
    const LayerJob<E> job{layer.inputs,
                          layer.outputs,
                          static_cast<const E*>(layer.x),
                          layer.kernel,
                          static_cast<const E*>(read),
                          &gradient,
                          below,
                          chain_.rule,
                          static_cast<const T*>(chain_.hyper),
                          static_cast<const T*>(layer.kernel_gradient)};
    const double flops = 2 * static_cast<double>(chain_.batch) * static_cast<double>(layer.inputs) *
                         static_cast<double>(layer.outputs);
    derived().layer(l, job, flops);
  }

  T* const scratch_;
};

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_CHAIN_WALK_H_
