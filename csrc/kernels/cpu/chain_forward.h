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
#include "kernels/cpu/forward_tasks.h"
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
    const DepthParts parts(chain.batch, layer.inputs, layer.outputs);
    layout->sums = std::max(layout->sums, parts.sums(chain.batch, layer.outputs));
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
      const DepthParts parts(job.batch, job.inputs, job.outputs);
      T* const worker_scratch = scratch_ + layout_.worker_at(0);
      if (parts.count > 1) {
        run_deep_forward(kernels_, job, parts, scratch_ + layout_.first_sum(), worker_scratch,
                         layout_.worker, layout_.num_workers, executor_);
      } else {
        run_forward(kernels_, job, worker_scratch, layout_.worker, layout_.num_workers, executor_);
      }
      layers_[l].reference = wanted.z ? job.z : job.y;
      if (l > 0) layers_[l - 1].x = job.y;
    }
    return std::move(layers_);
  }

 private:
  ForwardJob<T> layer_job(const splitop_dense_layer& layer, const WantedActivations& wanted) {
    ForwardJob<T> job = {};
    job.batch = chain_.batch;
    job.inputs = layer.inputs;
    job.outputs = layer.outputs;
    job.x = static_cast<const T*>(layer.x);
    job.x_stride = layer.inputs;
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
