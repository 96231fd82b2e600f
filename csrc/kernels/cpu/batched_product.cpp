// Products of the members of a batch on CPUs: blocks of all of them are shared out among the
// workers. One product of rows by a matrix is a dense layer's forward pass, which makes panels of
// the matrix for many rows at once (but never one of a deep layer: forward_tasks.h).
#include "splitop/batched_product.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/forward_tasks.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

constexpr double kFlopsPerTask = 1 << 17;  // at least, where there are more blocks

int64_t members(const splitop_batched_product& product) {
  int64_t members = 1;
  for (int32_t d = 0; d < product.num_batch_dims; ++d) members *= product.batch[d];
  return members;
}

// Where the matrices of a member of the batch start.
struct Offsets {
  int64_t a = 0, b = 0, c = 0;
};

Offsets offsets(const splitop_batched_product& product, int64_t member) {
  Offsets offsets;
  for (int32_t d = product.num_batch_dims - 1; d >= 0; --d) {
    const int64_t index = member % product.batch[d];
    member /= product.batch[d];
    offsets.a += index * product.a_batch[d];
    offsets.b += index * product.b_batch[d];
    offsets.c += index * product.c_batch[d];
  }
  return offsets;
}

template <typename T>
class Products {
 public:
  Products(const splitop_batched_product& product, const DenseChainKernels<T>& kernels, T* scratch)
      : product_(product),
        kernels_(kernels),
        scratch_(scratch),
        col_blocks_(ceil_div(product.cols, kernels.tile_cols)),
        row_blocks_(ceil_div(product.rows, kernels.product_rows)),
        blocks_(members(product) * row_blocks_ * col_blocks_) {}

  void run(const splitop_executor& executor) const {
    if (blocks_ == 0) return;
    const double flops = 2.0 * static_cast<double>(members(product_)) *
                         static_cast<double>(product_.rows) * static_cast<double>(product_.cols) *
                         static_cast<double>(product_.depth);
    const double blocks_a_task = kFlopsPerTask * static_cast<double>(blocks_) / (flops + 1);
    const auto each =
        static_cast<int64_t>(std::clamp(blocks_a_task, 1.0, static_cast<double>(blocks_)));
    parallel_tasks(executor, executor.num_workers, ceil_div(blocks_, each), flops,
                   [&](int64_t task, int32_t worker) {
                     const int64_t end = std::min(blocks_, (task + 1) * each);
                     for (int64_t b = task * each; b < end; ++b) block(b, worker);
                   });
  }

 private:
  void block(int64_t index, int32_t worker) const {
    const int64_t col = index % col_blocks_ * kernels_.tile_cols;
    index /= col_blocks_;
    const int64_t row = index % row_blocks_ * kernels_.product_rows;
    const Offsets start = offsets(product_, index / row_blocks_);
    ProductJob<T> job = {};
    job.rows = std::min(kernels_.product_rows, product_.rows - row);
    job.cols = std::min(kernels_.tile_cols, product_.cols - col);
    job.depth = product_.depth;
    job.a = static_cast<const T*>(product_.a) + start.a + row * product_.a_row;
    job.a_row = product_.a_row;
    job.a_depth = product_.a_depth;
    job.b = static_cast<const T*>(product_.b) + start.b + col * product_.b_col;
    job.b_depth = product_.b_depth;
    job.b_col = product_.b_col;
    job.c = static_cast<T*>(product_.c) + start.c + row * product_.c_row + col;
    job.c_row = product_.c_row;
    if (job.depth > 0) {
      kernels_.product_block(job, scratch_ + worker * kernels_.product_scratch);
    } else {
      for (int64_t r = 0; r < job.rows; ++r) std::fill_n(job.c + r * job.c_row, job.cols, T(0));
    }
    if (product_.bias != nullptr) add(static_cast<const T*>(product_.bias) + col, job);
    if (product_.activation == SPLITOP_RELU) cut_off(job);
  }

  static void add(const T* bias, const ProductJob<T>& job) {
    for (int64_t r = 0; r < job.rows; ++r) {
      T* const row = job.c + r * job.c_row;
      for (int64_t i = 0; i < job.cols; ++i) row[i] += bias[i];
    }
  }

  // NaN stays.
  static void cut_off(const ProductJob<T>& job) {
    for (int64_t r = 0; r < job.rows; ++r) {
      T* const row = job.c + r * job.c_row;
      for (int64_t i = 0; i < job.cols; ++i) row[i] = row[i] < 0 ? T(0) : row[i];
    }
  }

  const splitop_batched_product& product_;
  const DenseChainKernels<T>& kernels_;
  T* const scratch_;
  const int64_t col_blocks_, row_blocks_, blocks_;
};

// Whether it is one product, whose matrices have nothing between their rows.
bool is_dense_layer(const splitop_batched_product& product) {
  const int64_t depth = product.depth, cols = product.cols;
  return members(product) == 1 && product.rows > 0 && cols > 0 && depth > 0 &&
         product.a_row == depth && product.a_depth == 1 && product.b_depth == cols &&
         product.b_col == 1 && product.c_row == cols;
}

template <typename T>
ForwardJob<T> forward_job(const splitop_batched_product& product) {
  ForwardJob<T> job = {};
  job.batch = product.rows;
  job.inputs = product.depth;
  job.outputs = product.cols;
  job.x = static_cast<const T*>(product.a);
  job.x_stride = job.inputs;
  job.kernel = static_cast<const T*>(product.b);
  job.bias = static_cast<const T*>(product.bias);
  job.activation = product.activation;
  job.y = static_cast<T*>(product.c);
  return job;
}

// Elements for each worker, by which it stays aligned.
template <typename T>
int64_t worker_scratch(const splitop_batched_product& product,
                       const DenseChainKernels<T>& kernels) {
  constexpr int64_t kUnit = 64 / sizeof(T);
  return is_dense_layer(product) ? round_up(kernels.forward_scratch, kUnit)
                                 : kernels.product_scratch;
}

template <typename T>
size_t needed_scratch(const splitop_batched_product& product, const DenseChainKernels<T>& kernels,
                      int32_t num_workers) {
  return sizeof(T) * worker_scratch(product, kernels) * num_workers;
}

template <typename T>
splitop_status run(const splitop_batched_product& product, void* scratch, size_t scratch_bytes,
                   const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  if (scratch == nullptr ||
      scratch_bytes < needed_scratch(product, kernels, executor.num_workers)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  T* const memory = static_cast<T*>(scratch);
  if (is_dense_layer(product)) {
    run_forward(kernels, forward_job<T>(product), memory, worker_scratch(product, kernels),
                executor.num_workers, executor);
  } else {
    Products<T>(product, kernels, memory).run(executor);
  }
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_batched_product_scratch_bytes(const splitop_batched_product* product,
                                                 int32_t num_workers) {
  if (!splitop::valid(product) || num_workers < 1) return 0;
  return product->dtype == SPLITOP_FLOAT32
             ? splitop::needed_scratch(*product, splitop::dense_chain_kernels<float>(), num_workers)
             : splitop::needed_scratch(*product, splitop::dense_chain_kernels<double>(),
                                       num_workers);
}

splitop_status splitop_cpu_batched_product(const splitop_batched_product* product, void* scratch,
                                           size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(product) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  return product->dtype == SPLITOP_FLOAT32
             ? splitop::run<float>(*product, scratch, scratch_bytes, *executor)
             : splitop::run<double>(*product, scratch, scratch_bytes, *executor);
}
