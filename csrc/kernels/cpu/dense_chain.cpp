// The dense chain on CPUs: one walk down the chain, which updates as it goes; before it, where the
// caller has not run it, the forward pass.
#include "splitop/dense_chain.h"

#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/chain_forward.h"
#include "kernels/cpu/chain_walk.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/short_floats.h"

namespace splitop {
namespace {

template <typename E>
class ChainRun : public ChainWalk<ChainRun<E>, E> {
 public:
  using ChainWalk<ChainRun, E>::ChainWalk;

  Gradient<E> gradient_of(int32_t l) const {
    const splitop_dense_layer& layer = this->chain_.layers[l];
    Gradient<E> g = this->layer_gradient(l);
    g.bias = layer.bias;
    if (layer.kernel_gradient != nullptr) g.by_batch = nullptr;
    return g;
  }

  void layer(int32_t, const LayerJob<E>& job, double flops) const {
    double work = job.kernel_gradient == nullptr ? flops : update_flops(job);
    if (job.below != nullptr) work += flops;
    this->parallel_blocks(job.inputs, work, [&](int64_t begin, int64_t end, int32_t worker) {
      this->kernels_.layer_rows(job, begin, end, this->worker_scratch(worker));
    });
  }

 private:
  // An element's update costs about as much as ten multiply-adds.
  static double update_flops(const LayerJob<E>& job) {
    return 20.0 * static_cast<double>(job.inputs) * static_cast<double>(job.outputs);
  }
};

// A row-wise rule takes the gradient of a row as a whole; here there is a part of it at a time.
// In mixed precision the forward pass is one of tensors that are rounded to 16 bits.
bool supported(const splitop_dense_chain& chain) {
  return !splitop_is_rowwise(chain.rule) && !(chain.forward && mixed_precision(chain));
}

template <typename E>
ScratchLayout chain_layout(const DenseChainKernels<E>& kernels, const splitop_dense_chain& chain,
                           int32_t num_workers) {
  ScratchLayout layout = scratch_layout(kernels, chain, num_workers);
  if (chain.forward) add_forward(kernels, chain, num_workers, &layout);
  return layout;
}

// The instruction set is looked up once: another thread may select another one meanwhile.
template <typename E>
splitop_status run_chain(splitop_dense_chain chain, void* scratch, size_t scratch_bytes,
                         const splitop_executor& executor) {
  const DenseChainKernels<E>& table = dense_chain_kernels<E>();
  const ScratchLayout layout = chain_layout(table, chain, executor.num_workers);
  if (scratch_bytes < sizeof(Accumulator<E>) * layout.total()) return SPLITOP_INVALID_ARGUMENT;
  std::vector<splitop_dense_layer> layers;
  if constexpr (!kIsShort<E>) {
    if (chain.forward) {
      layers = ChainForward<E>(table, layout, chain, scratch, executor).run();
      chain.layers = layers.data();
    }
  }
  ChainRun<E>(table, layout, chain, scratch, executor).run();
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                             int32_t num_workers) {
  if (!splitop::valid(chain) || !splitop::supported(*chain) || num_workers < 1) return 0;
  return splitop::with_element(chain->dtype, [&](auto element) {
    using E = decltype(element);
    const auto& table = splitop::dense_chain_kernels<E>();
    return sizeof(splitop::Accumulator<E>) *
           splitop::chain_layout(table, *chain, num_workers).total();
  });
}

splitop_status splitop_cpu_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                       size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(chain) || scratch == nullptr || !splitop::valid(executor)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  if (!splitop::supported(*chain)) return SPLITOP_UNSUPPORTED;
  return splitop::with_element(chain->dtype, [&](auto element) {
    return splitop::run_chain<decltype(element)>(*chain, scratch, scratch_bytes, *executor);
  });
}
