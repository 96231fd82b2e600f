// The dense sweep on CPUs: a walk down the chain that keeps every G, and the norms of the weight
// gradients that it makes possible.
#include "splitop/dense_sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/checks.h"
#include "kernels/cpu/chain_walk.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/squares.h"
#include "kernels/cpu/sum_of_squares.h"

namespace splitop {
namespace {

// x^T G costs this much before it is worth a thought.
constexpr double kCheapProduct = 1e5;

// ||x||^2 ||G||^2 may be so many times the squared norm for each element of x^T G.
constexpr double kCancellation = 2;

double product_flops(int64_t batch, int64_t inputs, int64_t outputs) {
  return 2 * static_cast<double>(batch) * static_cast<double>(inputs) *
         static_cast<double>(outputs);
}

// For half of the pairs of rows.
double gram_flops(int64_t batch, int64_t inputs, int64_t outputs) {
  const double rows = static_cast<double>(batch);
  return rows * (rows + kGramRows) * static_cast<double>(inputs + outputs);
}

// A product in double takes as long as sizeof(double) / sizeof(T) of them in T, that of the sums.
template <typename T>
bool gram_is_cheaper(int64_t batch, int64_t inputs, int64_t outputs) {
  const double cost = gram_flops(batch, inputs, outputs) * sizeof(double) / sizeof(T);
  return cost < std::max(product_flops(batch, inputs, outputs), kCheapProduct);
}

template <typename T>
bool gram_is_cheaper(const splitop_dense_chain& chain, const splitop_dense_layer& layer) {
  return gram_is_cheaper<T>(chain.batch, layer.inputs, layer.outputs);
}

// Where the product has to be made, and takes no more memory than x and G do.
template <typename E>
bool keeps_kernel_gradient(int64_t batch, int64_t inputs, int64_t outputs) {
  using T = Accumulator<E>;
  const double kept = sizeof(T) * static_cast<double>(inputs) * static_cast<double>(outputs);
  const double given =
      sizeof(E) * static_cast<double>(batch) * static_cast<double>(inputs + outputs);
  return kept <= given && !gram_is_cheaper<T>(batch, inputs, outputs);
}

int64_t gram_tasks(int64_t batch) {
  const int64_t blocks = ceil_div(batch, kGramRows);
  return blocks * (blocks + 1) / 2;
}

struct SweepLayout {
  ScratchLayout walk;
  int64_t workers = 0;      // elements for all workers, after the gradients
  int64_t gram_worker = 0;  // elements, for each worker, in the same place; 0: never needed
  int64_t column_sums = 0;  // elements
  // The numbers that the norms of a layer are summed up from, in an order that no executor changes:
  // one for each block of pairs, row of the weight gradient, or block of x or G.
  int64_t parts = 0;

  template <typename T>
  size_t bytes() const {
    return sizeof(T) * (walk.gradients() + workers + column_sums) + sizeof(double) * parts;
  }
};

template <typename E, typename T = Accumulator<E>>
SweepLayout sweep_layout(const DenseChainKernels<E>& kernels, const splitop_dense_sweep& sweep,
                         const splitop_dense_chain& chain, int32_t num_workers) {
  const int64_t unit = kScratchAlignment / sizeof(T);
  SweepLayout layout;
  layout.walk = scratch_layout(kernels, chain, num_workers);
  layout.workers = layout.walk.num_workers * layout.walk.worker;
  if (sweep.norms == SPLITOP_NORMS_NONE) return layout;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    const splitop_dense_layer& layer = chain.layers[l];
    layout.column_sums = std::max(layout.column_sums, round_up(layer.outputs, unit));
    layout.parts = std::max({layout.parts, layer.inputs, square_blocks(chain.batch * layer.inputs),
                             square_blocks(chain.batch * layer.outputs)});
    if (sweep.norms == SPLITOP_NORMS_EXACT && gram_is_cheaper<T>(chain, layer)) {
      layout.parts = std::max(layout.parts, gram_tasks(chain.batch));
      layout.gram_worker = kernels.gram_scratch / static_cast<int64_t>(sizeof(T));
    }
  }
  // Pairs of rows of the batch may be more tasks than there are columns.
  layout.workers = std::max(layout.workers, num_workers * layout.gram_worker);
  return layout;
}

template <typename E>
class SweepRun : public ChainWalk<SweepRun<E>, E> {
 public:
  using T = Accumulator<E>;

  SweepRun(const DenseChainKernels<E>& kernels, const SweepLayout& layout,
           const splitop_dense_sweep& sweep, const splitop_dense_chain& chain, void* scratch,
           const splitop_executor& executor)
      : ChainWalk<SweepRun, E>(kernels, layout.walk, chain, scratch, executor),
        sweep_(sweep),
        gram_scratch_(static_cast<T*>(scratch) + layout.walk.gradients()),
        gram_worker_(layout.gram_worker),
        column_sums_(gram_scratch_ + layout.workers),
        parts_(reinterpret_cast<double*>(column_sums_ + layout.column_sums)) {}

  Gradient<E> gradient_of(int32_t l) const {
    Gradient<E> g = this->layer_gradient(l);
    g.row_major = static_cast<E*>(sweep_.gradients[l]);
    if (sweep_.norms == SPLITOP_NORMS_NONE) {
      g.by_batch = nullptr;
    } else {
      g.column_sums = column_sums_;
    }
    return g;
  }

  void layer(int32_t l, const LayerJob<E>& job, double flops) {
    // The column sums of G are overwritten by those of the layer below.
    if (sweep_.norms != SPLITOP_NORMS_NONE) set_norms(l, job, flops);
    if (job.below == nullptr) return;
    this->parallel_blocks(job.inputs, flops, [&](int64_t begin, int64_t end, int32_t worker) {
      this->kernels_.input_gradient_rows(job, begin, end, this->worker_scratch(worker));
    });
  }

 private:
  void set_norms(int32_t l, const LayerJob<E>& job, double flops) {
    const int64_t batch = this->chain_.batch;
    const splitop_dense_layer& layer = this->chain_.layers[l];
    sweep_.squared_norms[this->chain_.num_layers + l] = sum_squares(column_sums_, job.outputs);
    const GradientSource<E> source{batch, job.inputs, job.outputs, job.x,
                                   static_cast<const E*>(sweep_.gradients[l])};
    // |sum over the batch of x g| <= ||x|| ||G||, and so are all its partial sums.
    const double bound =
        squares(source.x, batch * job.inputs) * squares(source.gradient, batch * job.outputs);
    const double most = std::numeric_limits<T>::max();
    double* const norm = &sweep_.squared_norms[l];
    if (!std::isfinite(bound) || bound > most * most) {
      *norm = product_norm(job, kept_gradient(l), flops);
    } else if (sweep_.norms == SPLITOP_NORMS_BOUNDS) {
      *norm = bound;
    } else if (kept_gradient(l) == nullptr && gram_is_cheaper<T>(this->chain_, layer)) {
      *norm = gram_norm(layer, source);
    } else {
      *norm = exact_product_norm(job, source, kept_gradient(l), bound, flops);
    }
  }

  // The rounding errors of the elements are about epsilon * ||x|| ||G|| together. They make up so
  // much less of the norm as there are elements, unless x^T G is much smaller than x and G.
  double exact_product_norm(const LayerJob<E>& job, const GradientSource<E>& source, T* kept,
                            double bound, double flops) {
    const double norm = product_norm(job, kept, flops);
    const double elements = static_cast<double>(job.inputs * job.outputs);
    if (sizeof(T) == sizeof(double) || norm * elements * kCancellation >= bound) return norm;
    this->parallel_blocks(job.inputs, 4 * flops, [&](int64_t begin, int64_t end, int32_t) {
      this->kernels_.weight_squares_in_double(source, begin, end, parts_);
    });
    return sum_of_parts(job.inputs);
  }

  double squares(const E* values, int64_t count) {
    return sum_of_squares(this->kernels_, this->executor_, values, count, parts_);
  }

  // Where dL/dW of a layer is to be kept; NULL: it is thrown away.
  T* kept_gradient(int32_t l) const {
    if (sweep_.kernel_gradients == nullptr) return nullptr;
    return static_cast<T*>(sweep_.kernel_gradients[l]);
  }

  double gram_norm(const splitop_dense_layer& layer, const GradientSource<E>& source) {
    const int64_t tasks = gram_tasks(source.batch);
    const double flops = 2 * gram_flops(source.batch, layer.inputs, layer.outputs);
    parallel_tasks(this->executor_, this->executor_.num_workers, tasks, flops,
                   [&](int64_t task, int32_t worker) {
                     int64_t row = 0;
                     while ((row + 1) * (row + 2) / 2 <= task) ++row;
                     const int64_t col = task - row * (row + 1) / 2;
                     parts_[task] = this->kernels_.gram_block(
                         source, gram_block(row, col), gram_scratch_ + worker * gram_worker_);
                   });
    const double norm = sum_of_parts(tasks);
    return norm < 0 ? 0 : norm;  // by rounding; NaN stays NaN
  }

  GramBlock gram_block(int64_t row, int64_t col) const {
    const auto rows = [&](int64_t block) {
      return std::min(kGramRows, this->chain_.batch - block * kGramRows);
    };
    return {row * kGramRows, col * kGramRows, rows(row), rows(col)};
  }

  double product_norm(const LayerJob<E>& job, T* kept, double flops) {
    this->parallel_blocks(job.inputs, flops, [&](int64_t begin, int64_t end, int32_t worker) {
      this->kernels_.weight_squares(job, begin, end, this->worker_scratch(worker), kept, parts_);
    });
    return sum_of_parts(job.inputs);
  }

  double sum_of_parts(int64_t count) const {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += parts_[i];
    return sum;
  }

  const splitop_dense_sweep& sweep_;
  T* const gram_scratch_;
  const int64_t gram_worker_;
  T* const column_sums_;
  double* const parts_;
};

template <typename E>
size_t sweep_bytes(const splitop_dense_sweep& sweep, int32_t num_workers) {
  return sweep_layout(dense_chain_kernels<E>(), sweep, swept_chain(sweep), num_workers)
      .template bytes<Accumulator<E>>();
}

template <typename E>
splitop_status run_sweep(const splitop_dense_sweep& sweep, void* scratch, size_t scratch_bytes,
                         const splitop_executor& executor) {
  const DenseChainKernels<E>& table = dense_chain_kernels<E>();
  const splitop_dense_chain chain = swept_chain(sweep);
  const SweepLayout layout = sweep_layout(table, sweep, chain, executor.num_workers);
  if (scratch_bytes < layout.bytes<Accumulator<E>>()) return SPLITOP_INVALID_ARGUMENT;
  SweepRun<E>(table, layout, sweep, chain, scratch, executor).run();
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

int32_t splitop_keeps_kernel_gradient(splitop_dtype dtype, int64_t batch, int64_t inputs,
                                      int64_t outputs) {
  if (batch < 1 || inputs < 1 || outputs < 1) return 0;
  return splitop::with_element(dtype, [&](auto element) {
    return splitop::keeps_kernel_gradient<decltype(element)>(batch, inputs, outputs) ? 1 : 0;
  });
}

size_t splitop_cpu_dense_sweep_scratch_bytes(const splitop_dense_sweep* sweep,
                                             int32_t num_workers) {
  if (!splitop::valid(sweep) || num_workers < 1) return 0;
  return splitop::with_element(sweep->dtype, [&](auto element) {
    return splitop::sweep_bytes<decltype(element)>(*sweep, num_workers);
  });
}

splitop_status splitop_cpu_dense_sweep(const splitop_dense_sweep* sweep, void* scratch,
                                       size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(sweep) || scratch == nullptr || !splitop::valid(executor)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  return splitop::with_element(sweep->dtype, [&](auto element) {
    return splitop::run_sweep<decltype(element)>(*sweep, scratch, scratch_bytes, *executor);
  });
}
