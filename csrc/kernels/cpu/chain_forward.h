// The forward pass of a chain of dense layers, for a backward pass that has to have it.
#ifndef SPLITOP_KERNELS_CPU_CHAIN_FORWARD_H_
#define SPLITOP_KERNELS_CPU_CHAIN_FORWARD_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cpu/activation_values.h"
#include "kernels/cpu/chain_walk.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "splitop/dense_chain.h"

namespace splitop {

// Which activations of a layer the backward pass reads. Of a linear top layer it reads none.
struct WantedActivations {
  bool z;
  bool y;

  WantedActivations(const splitop_dense_chain& chain, int32_t l) {
    const splitop_activation activation = chain.layers[l].activation;
    const bool has_reference = activation != SPLITOP_LINEAR;
    z = has_reference && !gradient_reads_output(activation);
    y = l > 0 || (has_reference && gradient_reads_output(activation));
  }

  int count() const { return z + y; }
};

// How a layer's activations are shared out: in blocks of columns as wide as may be, for the wider
// they are, the less often x is read, and of as many rows as leave tasks for all workers. Where a
// batch is too short for that, the columns are fewer. Where W is waited for, wide blocks are worth
// more than many.
template <typename E>
struct ForwardTasks {
  static constexpr int64_t kTasksPerWorker = 4;
  static constexpr int64_t kStreamedTasksPerWorker = 2;
  static constexpr int64_t kFewestRows = 192;  // that are worth making panels of W for

  int64_t cols;  // of a block
  int64_t rows;
  int64_t blocks_of_cols;
  int64_t blocks_of_rows;

  ForwardTasks(const DenseChainKernels<E>& kernels, int64_t batch, int64_t inputs, int64_t outputs,
               int32_t num_workers) {
    const bool streamed = kernels.waits_for_kernel(batch, inputs, outputs);
    const int64_t wanted = (streamed ? kStreamedTasksPerWorker : kTasksPerWorker) * num_workers;
    const int64_t most_cols = streamed ? kernels.streamed_cols : kernels.forward_cols;
    const int64_t widest = ceil_div(outputs, most_cols);
    const int64_t most_of_rows = streamed ? 1 : std::max<int64_t>(batch / kFewestRows, 1);
    rows = ceil_div(batch, std::min(ceil_div(wanted, widest), most_of_rows));
    rows = std::min(round_up(rows, kernels.tile_cols), kernels.forward_rows);
    blocks_of_rows = ceil_div(batch, rows);
    const int64_t share = ceil_div(outputs, ceil_div(wanted, blocks_of_rows));
    cols = std::min(round_up(share, kernels.tile_cols), most_cols);
    blocks_of_cols = ceil_div(outputs, cols);
  }

  int64_t count() const { return blocks_of_cols * blocks_of_rows; }
};

// Makes room in the scratch for what the forward pass of the chain makes, and needs.
template <typename E>
void add_forward(const DenseChainKernels<E>& kernels, const splitop_dense_chain& chain,
                 int32_t num_workers, ScratchLayout* layout) {
  const int64_t unit = kScratchAlignment / sizeof(Accumulator<E>);
  layout->worker = std::max(layout->worker, round_up(kernels.forward_scratch, unit));
  int64_t workers = layout->num_workers;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    const splitop_dense_layer& layer = chain.layers[l];
    layout->activations +=
        WantedActivations(chain, l).count() * round_up(chain.batch * layer.outputs, unit);
    workers = std::max(
        workers,
        ForwardTasks<E>(kernels, chain.batch, layer.inputs, layer.outputs, num_workers).count());
  }
  layout->num_workers = static_cast<int32_t>(std::min<int64_t>(num_workers, workers));
}

template <typename T>
class ChainForward {
 public:
  ChainForward(const DenseChainKernels<T>& kernels, const ScratchLayout& layout,
               const splitop_dense_chain& chain, void* scratch, const splitop_executor& executor)
      : kernels_(kernels),
        layout_(layout),
        chain_(chain),
        executor_(executor),
        scratch_(static_cast<T*>(scratch)),
        free_(scratch_ + layout.first_activation()),
        layers_(chain.layers, chain.layers + chain.num_layers) {}

  // Runs it; returns the layers as the backward pass takes them.
  std::vector<splitop_dense_layer> run() {
    for (int32_t l = chain_.num_layers - 1; l >= 0; --l) {
      const WantedActivations wanted(chain_, l);
      if (wanted.count() == 0) continue;
      const ForwardJob<T> job = layer_job(layers_[l], wanted);
      multiply(job);
      layers_[l].reference = wanted.z ? job.z : job.y;
      if (l > 0) layers_[l - 1].x = job.y;
    }
    return std::move(layers_);
  }

 private:
  ForwardJob<T> layer_job(const splitop_dense_layer& layer, const WantedActivations& wanted) {
    ForwardJob<T> job;
    job.batch = chain_.batch;
    job.inputs = layer.inputs;
    job.outputs = layer.outputs;
    job.x = static_cast<const T*>(layer.x);
    job.kernel = static_cast<const T*>(layer.kernel.value);
    job.bias = static_cast<const T*>(layer.bias.value);
    job.activation = layer.activation;
    job.alpha = static_cast<T>(layer.alpha);
    job.z = wanted.z ? take(layer) : nullptr;
    job.y = wanted.y ? take(layer) : nullptr;
    return job;
  }

  T* take(const splitop_dense_layer& layer) {
    T* const taken = free_;
    free_ += round_up(chain_.batch * layer.outputs, kScratchAlignment / sizeof(T));
    return taken;
  }

  void multiply(const ForwardJob<T>& job) const {
    const double flops = 2 * static_cast<double>(job.batch) * static_cast<double>(job.inputs) *
                         static_cast<double>(job.outputs);
    const ForwardTasks<T> tasks(kernels_, job.batch, job.inputs, job.outputs, layout_.num_workers);
    parallel_tasks(executor_, layout_.num_workers, tasks.count(), flops,
                   [&](int64_t task, int32_t worker) {
                     const int64_t begin = task % tasks.blocks_of_rows * tasks.rows;
                     const int64_t first = task / tasks.blocks_of_rows * tasks.cols;
                     kernels_.forward_block(job, begin, std::min(begin + tasks.rows, job.batch),
                                            first, std::min(tasks.cols, job.outputs - first),
                                            scratch_ + layout_.worker_at(worker));
                   });
  }

  const DenseChainKernels<T>& kernels_;
  const ScratchLayout& layout_;
  const splitop_dense_chain& chain_;
  const splitop_executor& executor_;
  T* const scratch_;
  T* free_;
  std::vector<splitop_dense_layer> layers_;
};

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_CHAIN_FORWARD_H_
