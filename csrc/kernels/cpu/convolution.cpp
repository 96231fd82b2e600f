// Convolutions on CPUs. A convolution is a dense layer's forward pass that reads windows in the
// place of x, and so is the gradient of its images. That of its filter is a product with them.
#include "splitop/convolution.h"

#include <algorithm>
#include <utility>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/forward_tasks.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

int64_t num_windows(const splitop_image_shapes& shapes) {
  return shapes.batch * shapes.rows.output * shapes.columns.output;
}

// Elements of one.
int64_t window_size(const splitop_image_shapes& shapes) {
  return shapes.rows.filter * shapes.columns.filter * shapes.channels;
}

template <typename T>
Windows<T> windows_of(const splitop_image_shapes& shapes, const void* image) {
  return {static_cast<const T*>(image), shapes.channels, shapes.rows, shapes.columns};
}

// Whether the windows are the rows of x, one after the other.
bool are_rows(const splitop_image_shapes& shapes) {
  const auto is_row = [](const splitop_window& window) {
    return window.filter == 1 && window.stride == 1 && window.before == 0 &&
           window.input == window.output;
  };
  return is_row(shapes.rows) && is_row(shapes.columns);
}

// Elements that leave what comes after them aligned.
template <typename T>
int64_t aligned(int64_t elements) {
  return round_up(elements, 64 / sizeof(T));
}

// ---- the convolution ----

template <typename T>
int64_t forward_scratch(const DenseChainKernels<T>& kernels, int32_t num_workers) {
  return aligned<T>(kernels.forward_scratch) * num_workers;
}

template <typename T>
int64_t needed_scratch(const splitop_convolution&, const DenseChainKernels<T>& kernels,
                       int32_t num_workers) {
  return forward_scratch(kernels, num_workers);
}

template <typename T>
void run(const splitop_convolution& convolution, const DenseChainKernels<T>& kernels, T* scratch,
         const splitop_executor& executor) {
  const splitop_image_shapes& shapes = convolution.shapes;
  const Windows<T> windows = windows_of<T>(shapes, convolution.x);
  ForwardJob<T> job = {};
  job.batch = num_windows(shapes);
  job.inputs = window_size(shapes);
  job.outputs = shapes.filters;
  if (are_rows(shapes)) {
    job.x = windows.image;
    job.x_stride = job.inputs;
  } else {
    job.windows = &windows;
  }
  job.kernel = static_cast<const T*>(convolution.filter);
  job.bias = static_cast<const T*>(convolution.bias);
  job.activation = convolution.activation;
  job.alpha = static_cast<T>(convolution.alpha);
  job.y = static_cast<T*>(convolution.y);
  if (job.batch == 0) return;
  run_forward(kernels, job, scratch, aligned<T>(kernels.forward_scratch), executor.num_workers,
              executor);
}

// ---- the gradient of the filter ----

// How it is shared out: rows and columns of the filter as a matrix, and, where these are few, the
// windows; then each share has sums of its own.
template <typename T>
struct FilterTasks {
  static constexpr int64_t kTasks = 32;           // wanted, whatever the number of workers
  static constexpr int64_t kFewestWindows = 512;  // that are worth sums of their own

  int64_t windows;  // of a share
  int64_t rows, cols;
  int64_t shares, row_blocks, col_blocks;

  FilterTasks(const splitop_image_shapes& shapes, const DenseChainKernels<T>& kernels) {
    const int64_t size = window_size(shapes);
    const int64_t most = ceil_div(size, kernels.filter_rows);
    rows = round_up(ceil_div(size, most), kernels.tile_rows);
    row_blocks = ceil_div(size, rows);
    cols = std::min(kernels.filter_cols, round_up(shapes.filters, kernels.tile_cols));
    col_blocks = ceil_div(shapes.filters, cols);
    const int64_t count = num_windows(shapes);
    const int64_t wanted = ceil_div(kTasks, row_blocks * col_blocks);
    const int64_t fitting = std::max<int64_t>(count / kFewestWindows, 1);
    windows = std::max<int64_t>(ceil_div(count, std::min(wanted, fitting)), 1);
    shares = std::max<int64_t>(ceil_div(count, windows), 1);
  }

  int64_t count() const { return shares * row_blocks * col_blocks; }
};

// The sums of each share, if there are several: the gradient's, then the bias'.
template <typename T>
int64_t elements_of_sums(const splitop_image_shapes& shapes, const FilterTasks<T>& tasks) {
  return tasks.shares > 1 ? tasks.shares * (window_size(shapes) + 1) * shapes.filters : 0;
}

template <typename T>
int64_t needed_scratch(const splitop_filter_gradient& gradient, const DenseChainKernels<T>& kernels,
                       int32_t num_workers) {
  const FilterTasks<T> tasks(gradient.shapes, kernels);
  return kernels.filter_scratch * num_workers + elements_of_sums(gradient.shapes, tasks);
}

// total = the sum of `count` arrays, `size` apart from each other.
template <typename T>
void add_up(const T* parts, int64_t count, int64_t stride, int64_t size, T* total) {
  std::copy_n(parts, size, total);
  for (int64_t part = 1; part < count; ++part) {
    const T* const summand = parts + part * stride;
    for (int64_t i = 0; i < size; ++i) total[i] += summand[i];
  }
}

template <typename T>
void run(const splitop_filter_gradient& gradient, const DenseChainKernels<T>& kernels, T* scratch,
         const splitop_executor& executor) {
  const splitop_image_shapes& shapes = gradient.shapes;
  const int64_t size = window_size(shapes), filters = shapes.filters;
  T* const dfilter = static_cast<T*>(gradient.dfilter);
  T* const dbias = static_cast<T*>(gradient.dbias);
  const int64_t count = num_windows(shapes);
  if (count == 0) {
    std::fill_n(dfilter, size * filters, T(0));
    std::fill_n(dbias, filters, T(0));
    return;
  }
  const Windows<T> windows = windows_of<T>(shapes, gradient.x);
  const FilterTasks<T> tasks(shapes, kernels);
  T* const sums = scratch + kernels.filter_scratch * executor.num_workers;
  const int64_t stride = (size + 1) * filters;
  const double flops =
      2 * static_cast<double>(count) * static_cast<double>(size) * static_cast<double>(filters);
  const auto run_task = [&](int64_t task, int32_t worker) {
    const int64_t share = task % tasks.shares;
    task /= tasks.shares;
    const int64_t row = task % tasks.row_blocks * tasks.rows;
    const int64_t col = task / tasks.row_blocks * tasks.cols;
    FilterJob<T> job{&windows, filters, static_cast<const T*>(gradient.dz), dfilter, dbias};
    if (tasks.shares > 1) {
      job.sums = sums + share * stride;
      job.bias_sums = job.sums + size * filters;
    }
    const int64_t begin = share * tasks.windows;
    const FilterBlock block{row,
                            col,
                            std::min(tasks.rows, size - row),
                            std::min(tasks.cols, filters - col),
                            begin,
                            std::min(begin + tasks.windows, count)};
    kernels.filter_block(job, block, scratch + worker * kernels.filter_scratch);
  };
  parallel_tasks(executor, executor.num_workers, tasks.count(), flops, run_task);
  if (tasks.shares == 1) return;
  const double summands = static_cast<double>(tasks.shares) * static_cast<double>(stride);
  parallel_tasks(executor, executor.num_workers, tasks.row_blocks, summands,
                 [&](int64_t block, int32_t) {
                   const int64_t begin = block * tasks.rows * filters;
                   const int64_t end = std::min(begin + tasks.rows * filters, size * filters);
                   add_up(sums + begin, tasks.shares, stride, end - begin, dfilter + begin);
                 });
  add_up(sums + size * filters, tasks.shares, stride, filters, dbias);
}

// ---- the gradient of the images ----

// The same convolution backwards: from the result to the images.
splitop_window backwards(const splitop_window& window) {
  splitop_window turned = window;
  std::swap(turned.input, turned.output);
  turned.before = (window.filter - 1) * window.dilation - window.before;
  return turned;
}

template <typename T>
int64_t needed_scratch(const splitop_image_gradient& gradient, const DenseChainKernels<T>& kernels,
                       int32_t num_workers) {
  return forward_scratch(kernels, num_workers) +
         window_size(gradient.shapes) * gradient.shapes.filters;
}

constexpr int64_t kSide = 16;  // of a square that a cache has of both matrices

template <typename T>
void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
               int64_t cols) {
  for (int64_t j = 0; j < cols; ++j) {
    for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = from[i * from_stride + j];
  }
}

// The filter turned by half a circle, with its two kinds of channels exchanged.
template <typename T>
void turn_filter(const splitop_image_gradient& gradient, T* turned,
                 const splitop_executor& executor) {
  const splitop_image_shapes& shapes = gradient.shapes;
  const int64_t taps = shapes.rows.filter * shapes.columns.filter;
  const int64_t channels = shapes.channels, filters = shapes.filters;
  const int64_t size = channels * filters;
  const auto* const filter = static_cast<const T*>(gradient.filter);
  const double flops = kFlopsPerElement * static_cast<double>(taps) * static_cast<double>(size);
  parallel_tasks(executor, executor.num_workers, taps, flops, [&](int64_t tap, int32_t) {
    const T* const from = filter + tap * size;
    T* const to = turned + (taps - 1 - tap) * size;
    for (int64_t c = 0; c < channels; c += kSide) {
      for (int64_t f = 0; f < filters; f += kSide) {
        transpose(from + c * filters + f, filters, to + f * channels + c, channels,
                  std::min(kSide, channels - c), std::min(kSide, filters - f));
      }
    }
  });
}

template <typename T>
void run(const splitop_image_gradient& gradient, const DenseChainKernels<T>& kernels, T* scratch,
         const splitop_executor& executor) {
  const splitop_image_shapes& shapes = gradient.shapes;
  T* const turned = scratch + forward_scratch(kernels, executor.num_workers);
  turn_filter(gradient, turned, executor);
  splitop_convolution convolution = {};
  convolution.shapes = shapes;
  convolution.shapes.rows = backwards(shapes.rows);
  convolution.shapes.columns = backwards(shapes.columns);
  std::swap(convolution.shapes.channels, convolution.shapes.filters);
  convolution.x = gradient.dz;
  convolution.filter = turned;
  convolution.activation = SPLITOP_LINEAR;
  convolution.y = gradient.dx;
  run(convolution, kernels, scratch, executor);
}

// ---- of either type ----

template <typename Call>
size_t scratch_bytes(const Call* call, int32_t num_workers) {
  if (!valid(call) || num_workers < 1) return 0;
  return call->shapes.dtype == SPLITOP_FLOAT32
             ? sizeof(float) * needed_scratch(*call, dense_chain_kernels<float>(), num_workers)
             : sizeof(double) * needed_scratch(*call, dense_chain_kernels<double>(), num_workers);
}

template <typename Call>
splitop_status run(const Call* call, void* scratch, size_t bytes,
                   const splitop_executor* executor) {
  if (!valid(call) || !valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (scratch == nullptr || bytes < scratch_bytes(call, executor->num_workers)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  if (call->shapes.dtype == SPLITOP_FLOAT32) {
    run(*call, dense_chain_kernels<float>(), static_cast<float*>(scratch), *executor);
  } else {
    run(*call, dense_chain_kernels<double>(), static_cast<double*>(scratch), *executor);
  }
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_convolution_scratch_bytes(const splitop_convolution* convolution,
                                             int32_t num_workers) {
  return splitop::scratch_bytes(convolution, num_workers);
}

splitop_status splitop_cpu_convolution(const splitop_convolution* convolution, void* scratch,
                                       size_t scratch_bytes, const splitop_executor* executor) {
  return splitop::run(convolution, scratch, scratch_bytes, executor);
}

size_t splitop_cpu_filter_gradient_scratch_bytes(const splitop_filter_gradient* gradient,
                                                 int32_t num_workers) {
  return splitop::scratch_bytes(gradient, num_workers);
}

splitop_status splitop_cpu_filter_gradient(const splitop_filter_gradient* gradient, void* scratch,
                                           size_t scratch_bytes, const splitop_executor* executor) {
  return splitop::run(gradient, scratch, scratch_bytes, executor);
}

size_t splitop_cpu_image_gradient_scratch_bytes(const splitop_image_gradient* gradient,
                                                int32_t num_workers) {
  return splitop::scratch_bytes(gradient, num_workers);
}

splitop_status splitop_cpu_image_gradient(const splitop_image_gradient* gradient, void* scratch,
                                          size_t scratch_bytes, const splitop_executor* executor) {
  if (splitop::valid(gradient) &&
      (gradient->shapes.rows.stride > 1 || gradient->shapes.columns.stride > 1)) {
    return SPLITOP_UNSUPPORTED;
  }
  return splitop::run(gradient, scratch, scratch_bytes, executor);
}
