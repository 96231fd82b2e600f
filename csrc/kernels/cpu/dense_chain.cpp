// The dense chain on CPUs: checks, scratch, and the order of the parallel parts.
#include "splitop/dense_chain.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/cpu/dense_chain_kernels.h"
#include "splitop/cpu.h"

namespace splitop {
namespace {

constexpr size_t kAlignment = 64;
// A worker is woken only for this much arithmetic; waking one costs a few microseconds.
constexpr double kFlopsPerWorker = 1e6;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

DenseChainTables tables() {
  switch (splitop_cpu_isa_in_use()) {
#ifdef SPLITOP_HAVE_AVX512
    case SPLITOP_ISA_AVX512:
      return dense_chain_tables_avx512();
#endif
#ifdef SPLITOP_HAVE_AVX2
    case SPLITOP_ISA_AVX2:
      return dense_chain_tables_avx2();
#endif
    default:
      return dense_chain_tables_baseline();
  }
}

template <typename T>
const DenseChainKernels<T>& kernels();
template <>
const DenseChainKernels<float>& kernels() {
  return *tables().float32;
}
template <>
const DenseChainKernels<double>& kernels() {
  return *tables().float64;
}

// ---- checks ----

bool valid_variable(const splitop_variable& variable, int32_t num_slots) {
  return std::all_of(variable.slots, variable.slots + num_slots,
                     [](const void* slot) { return slot != nullptr; });
}

bool valid_layer(const splitop_dense_layer& layer, int32_t num_slots) {
  if (layer.inputs < 1 || layer.outputs < 1 || layer.x == nullptr) return false;
  if (layer.activation < 0 || layer.activation >= SPLITOP_NUM_ACTIVATIONS) return false;
  if (layer.activation != SPLITOP_LINEAR && layer.reference == nullptr) return false;
  if (layer.kernel.value == nullptr || !valid_variable(layer.kernel, num_slots)) return false;
  return layer.bias.value == nullptr || valid_variable(layer.bias, num_slots);
}

bool valid(const splitop_dense_chain* chain) {
  if (chain == nullptr || chain->num_layers < 1 || chain->layers == nullptr) return false;
  if (chain->dtype != SPLITOP_FLOAT32 && chain->dtype != SPLITOP_FLOAT64) return false;
  const int32_t num_slots = splitop_num_slots(chain->rule);
  if (chain->batch < 1 || chain->seed == nullptr || chain->hyper == nullptr || num_slots < 0) {
    return false;
  }
  for (int32_t l = 0; l < chain->num_layers; ++l) {
    if (!valid_layer(chain->layers[l], num_slots)) return false;
    if (l > 0 && chain->layers[l].outputs != chain->layers[l - 1].inputs) return false;
  }
  return true;
}

// ---- scratch ----

// Two gradients are alive at a time, the layer's and the one below; each has two buffers of
// `gradient` elements. Then every worker has its own part.
struct ScratchLayout {
  int64_t gradient;
  int64_t worker;
  int64_t total;
};

template <typename T>
ScratchLayout scratch_layout(const splitop_dense_chain& chain, int32_t num_workers) {
  const DenseChainKernels<T>& k = kernels<T>();
  int64_t cols = chain.layers[0].outputs;
  for (int32_t l = 0; l < chain.num_layers; ++l) cols = std::max(cols, chain.layers[l].inputs);
  const int64_t unit = kAlignment / sizeof(T);
  ScratchLayout layout;
  layout.gradient =
      round_up(round_up(chain.batch, k.tile_cols) * round_up(cols, k.tile_cols), unit);
  layout.worker = round_up(k.worker_scratch(chain.batch), unit);
  layout.total = 4 * layout.gradient + num_workers * layout.worker;
  return layout;
}

// ---- parallel parts ----

// Runs task(index, worker) for every index in [0, tasks), shared out among the workers as
// they become free. Every result belongs to one task, so the sharing does not show in it.
template <typename Task>
void parallel_tasks(const splitop_executor& executor, int64_t tasks, double flops,
                    const Task& task) {
  struct Shared {
    const Task& task;
    int64_t tasks;
    std::atomic<int64_t> next{0};
  } shared{task, tasks};
  auto body = [](void* context, int32_t worker) {
    Shared& s = *static_cast<Shared*>(context);
    for (int64_t i = s.next++; i < s.tasks; i = s.next++) s.task(i, worker);
  };
  const double wanted = std::min<double>(static_cast<double>(tasks), flops / kFlopsPerWorker);
  const int32_t workers =
      std::max(1, static_cast<int32_t>(std::min<double>(executor.num_workers, wanted)));
  if (workers == 1) {
    body(&shared, 0);
  } else {
    executor.run(executor.context, workers, body, &shared);
  }
}

// The height of a task's block of rows: the one that lets all workers finish first.
int64_t row_block(int64_t rows, int64_t unit, int64_t largest, int32_t workers) {
  int64_t best = largest;
  int64_t best_time = ceil_div(ceil_div(rows, best), workers) * best;
  for (int64_t block = largest - unit; block >= unit; block -= unit) {
    const int64_t time = ceil_div(ceil_div(rows, block), workers) * block;
    if (time < best_time) {
      best = block;
      best_time = time;
    }
  }
  return best;
}

template <typename T>
class ChainRun {
 public:
  ChainRun(const splitop_dense_chain& chain, void* scratch, const splitop_executor& executor)
      : chain_(chain),
        executor_(executor),
        kernels_(kernels<T>()),
        layout_(scratch_layout<T>(chain, executor.num_workers)),
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
  bool needs_input_gradient(int32_t l) const {
    return l + 1 < chain_.num_layers || chain_.input_gradient != nullptr;
  }

  Gradient<T> gradient_of(int32_t l) const {
    const splitop_dense_layer& layer = chain_.layers[l];
    Gradient<T> g = buffers(l, layer.outputs);
    g.activation = layer.activation;
    g.alpha = static_cast<T>(layer.alpha);
    g.reference = static_cast<const T*>(layer.reference);
    g.bias = layer.bias;
    g.keep_by_column = needs_input_gradient(l);
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
    g.by_batch = scratch_ + (depth % 2) * 2 * layout_.gradient;
    g.by_column = g.by_batch + layout_.gradient;
    return g;
  }

  void top(const Gradient<T>& gradient) {
    const T* seed = static_cast<const T*>(chain_.seed);
    const T* hyper = static_cast<const T*>(chain_.hyper);
    // An element costs about as much as ten multiply-adds: loads, transposition, activation.
    const double flops = 20.0 * static_cast<double>(gradient.batch * gradient.cols);
    parallel_tasks(executor_, ceil_div(gradient.cols, kernels_.tile_cols), flops,
                   [&](int64_t panel, int32_t) {
                     kernels_.top_panel(gradient, seed, panel, chain_.rule, hyper);
                   });
  }

  void layer(int32_t l, const Gradient<T>& gradient, const Gradient<T>* below) {
    const splitop_dense_layer& layer = chain_.layers[l];
    const LayerJob<T> job{
        layer.inputs, layer.outputs, static_cast<const T*>(layer.x),     layer.kernel, &gradient,
        below,        chain_.rule,   static_cast<const T*>(chain_.hyper)};
    const int64_t block =
        row_block(layer.inputs, kernels_.tile_cols, kernels_.max_row_block, executor_.num_workers);
    const double products = below != nullptr ? 2 : 1;
    const double flops = 2 * products * static_cast<double>(chain_.batch) *
                         static_cast<double>(layer.inputs) * static_cast<double>(layer.outputs);
    T* workers = scratch_ + 4 * layout_.gradient;
    parallel_tasks(executor_, ceil_div(layer.inputs, block), flops,
                   [&](int64_t task, int32_t worker) {
                     const int64_t begin = task * block;
                     kernels_.layer_rows(job, begin, std::min(begin + block, layer.inputs),
                                         workers + worker * layout_.worker);
                   });
  }

  const splitop_dense_chain& chain_;
  const splitop_executor& executor_;
  const DenseChainKernels<T>& kernels_;
  const ScratchLayout layout_;
  T* const scratch_;
};

}  // namespace
}  // namespace splitop

size_t splitop_cpu_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                             int32_t num_workers) {
  if (!splitop::valid(chain) || num_workers < 1) return 0;
  if (chain->dtype == SPLITOP_FLOAT32) {
    return sizeof(float) * splitop::scratch_layout<float>(*chain, num_workers).total;
  }
  return sizeof(double) * splitop::scratch_layout<double>(*chain, num_workers).total;
}

splitop_status splitop_cpu_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                       const splitop_executor* executor) {
  if (!splitop::valid(chain) || scratch == nullptr || executor == nullptr ||
      executor->num_workers < 1 || (executor->run == nullptr && executor->num_workers > 1)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  if (chain->dtype == SPLITOP_FLOAT32) {
    splitop::ChainRun<float>(*chain, scratch, *executor).run();
  } else {
    splitop::ChainRun<double>(*chain, scratch, *executor).run();
  }
  return SPLITOP_OK;
}
