// How the forward pass of a dense layer is shared out among workers.
#ifndef SPLITOP_KERNELS_CPU_FORWARD_TASKS_H_
#define SPLITOP_KERNELS_CPU_FORWARD_TASKS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"

namespace splitop {

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
    const int64_t most_rows = kernels.forward_rows / kernels.tile_rows * kernels.tile_rows;
    const int64_t fewest = ceil_div(batch, most_rows);
    int64_t blocks = std::min(ceil_div(wanted, widest), most_of_rows);
    // As many for each worker: none waits long for another one.
    if (blocks < fewest) blocks = round_up(fewest, num_workers);
    rows = std::min(round_up(ceil_div(batch, blocks), kernels.tile_rows), most_rows);
    blocks_of_rows = ceil_div(batch, rows);
    const int64_t share = ceil_div(outputs, ceil_div(wanted, blocks_of_rows));
    cols = std::min(round_up(share, kernels.tile_cols), most_cols);
    blocks_of_cols = ceil_div(outputs, cols);
  }

  int64_t count() const { return blocks_of_cols * blocks_of_rows; }
};

template <typename T>
double product_flops(const ForwardJob<T>& job) {
  return 2 * static_cast<double>(job.batch) * static_cast<double>(job.inputs) *
         static_cast<double>(job.outputs);
}

// Makes a layer's activations. scratch: kernels.forward_scratch elements for each worker, `stride`
// elements apart.
template <typename T>
void run_forward(const DenseChainKernels<T>& kernels, const ForwardJob<T>& job, T* scratch,
                 int64_t stride, int32_t num_workers, const splitop_executor& executor) {
  const ForwardTasks<T> tasks(kernels, job.batch, job.inputs, job.outputs, num_workers);
  parallel_tasks(
      executor, num_workers, tasks.count(), product_flops(job), [&](int64_t task, int32_t worker) {
        const int64_t begin = task % tasks.blocks_of_rows * tasks.rows;
        const int64_t first = task / tasks.blocks_of_rows * tasks.cols;
        kernels.forward_block(job, begin, std::min(begin + tasks.rows, job.batch), first,
                              std::min(tasks.cols, job.outputs - first), scratch + worker * stride);
      });
}

// A deep layer has many inputs, a short batch and few outputs, as after an image is flattened. Its
// columns, shared out, would be too narrow; so it is cut into parts of the rows of W, whose
// products are added up in order. How many there are depends on the shape alone, as roundings do.
struct DepthParts {
  static constexpr int64_t kFewestRows = 1024;
  static constexpr int64_t kMost = 32;
  static constexpr int64_t kLongestBatch = 256;
  static constexpr int64_t kMostOutputs = 256;
  static constexpr int64_t kUnit = 16;  // of rows of W: whole lines of a cache in a row of x

  int64_t rows;  // of W in a part
  int64_t count = 1;

  DepthParts(int64_t batch, int64_t inputs, int64_t outputs) : rows(inputs) {
    if (batch > kLongestBatch || outputs > kMostOutputs || inputs < 2 * kFewestRows) return;
    if (static_cast<double>(batch * inputs * outputs) < kFlopsPerWorker) return;  // of two workers
    rows = round_up(ceil_div(inputs, std::min(inputs / kFewestRows, kMost)), kUnit);
    count = ceil_div(inputs, rows);
  }

  // What the products need, in elements.
  int64_t sums(int64_t batch, int64_t outputs) const {
    return count > 1 ? count * batch * outputs : 0;
  }
};

// The forward pass of a part as a layer's of its own, which makes the part's product.
template <typename T>
ForwardJob<T> part_of(const ForwardJob<T>& job, const DepthParts& parts, int64_t part, T* sums) {
  ForwardJob<T> product = {};
  product.batch = job.batch;
  product.inputs = std::min(parts.rows, job.inputs - part * parts.rows);
  product.outputs = job.outputs;
  product.x = job.x + part * parts.rows;
  product.x_stride = job.x_stride;
  product.is_part = true;
  product.kernel = job.kernel + part * parts.rows * job.outputs;
  product.activation = SPLITOP_LINEAR;
  product.y = sums + part * job.batch * job.outputs;
  return product;
}

// As run_forward, of a deep layer. sums: room for the products.
template <typename T>
void run_deep_forward(const DenseChainKernels<T>& kernels, const ForwardJob<T>& job,
                      const DepthParts& parts, T* sums, T* scratch, int64_t stride,
                      int32_t num_workers, const splitop_executor& executor) {
  const int64_t wanted = ceil_div(ForwardTasks<T>::kTasksPerWorker * num_workers, parts.count);
  const int64_t share = round_up(ceil_div(job.outputs, wanted), kernels.tile_cols);
  const int64_t cols = std::min(share, kernels.forward_cols);
  const int64_t blocks = ceil_div(job.outputs, cols);
  parallel_tasks(executor, num_workers, parts.count * blocks, product_flops(job),
                 [&](int64_t task, int32_t worker) {
                   const int64_t first = task % blocks * cols;
                   kernels.forward_block(part_of(job, parts, task / blocks, sums), 0, job.batch,
                                         first, std::min(cols, job.outputs - first),
                                         scratch + worker * stride);
                 });
  const double summands = static_cast<double>(parts.sums(job.batch, job.outputs));
  parallel_tasks(
      executor, num_workers, job.batch, kFlopsPerElement * summands,
      [&](int64_t row, int32_t) { kernels.finish_sums(job, sums, parts.count, row, row + 1); });
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_FORWARD_TASKS_H_
