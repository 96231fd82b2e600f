#include "splitop/multi_tensor_update.h"

#include <algorithm>
#include <limits>

#include "kernels/checks.h"
#include "kernels/cuda/block_owner.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/elementwise_rules.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/multi_tensor_update.h"
#include "kernels/gradient_clip.h"
#include "kernels/update_rules.h"

namespace splitop::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kElementsPerThread = 16;
constexpr int64_t kBlockElements = kThreads * kElementsPerThread;
// A launch takes 32,764 bytes of arguments at most (compute capability 7.0, CUDA 12.1). The
// smaller tables keep short lists cheap: arguments are copied whole.
constexpr int kLargestTable = kUpdateTables[1];

struct Entry {
  const void* gradient;
  void* value;
  void* slots[SPLITOP_MAX_SLOTS];
  const void* clip;
  int64_t count;
  int32_t gradient_rows;
  int32_t decayed;
  int32_t first_block;
  int32_t aligned;  // to the packs of gradient and variables
};

template <int kEntries>
struct Table {
  const void* hyper;
  int32_t num_entries;
  Entry entries[kEntries];
};
static_assert(sizeof(Table<kLargestTable>) <= 32764);

// Elements [at, at + kPack) of one variable.
template <typename Gradient, typename Sum, typename Rule, int kPack>
__device__ __forceinline__ void update_pack(const Entry& entry, const Rule& rule, int64_t at) {
  using Vector = Pack<Sum, kPack>;
  auto* const value = reinterpret_cast<Vector*>(static_cast<Sum*>(entry.value) + at);
  auto* const slot0 = reinterpret_cast<Vector*>(static_cast<Sum*>(entry.slots[0]) + at);
  auto* const slot1 = reinterpret_cast<Vector*>(static_cast<Sum*>(entry.slots[1]) + at);
  auto* const slot2 = reinterpret_cast<Vector*>(static_cast<Sum*>(entry.slots[2]) + at);
  Vector w = *value;
  Vector s0 = {};
  Vector s1 = {};
  Vector s2 = {};
  if constexpr (Rule::kNumSlots > 0) s0 = load_streaming(slot0);
  if constexpr (Rule::kNumSlots > 1) s1 = load_streaming(slot1);
  if constexpr (Rule::kNumSlots > 2) s2 = load_streaming(slot2);
  Vector g = {};
  const auto* gradient = static_cast<const Gradient*>(entry.gradient) + at;
  for (int row = 0; row < entry.gradient_rows; ++row, gradient += entry.count) {
    const auto pack = *reinterpret_cast<const Pack<Gradient, kPack>*>(gradient);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g.at[i] += widen(pack.at[i]);
  }
  if (entry.clip != nullptr) {
    const GradientClip<Sum> clip(static_cast<const Sum*>(entry.clip));
#pragma unroll
    for (int i = 0; i < kPack; ++i) g.at[i] = clip(g.at[i]);
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    rule(g.at[i], g.at[i] * g.at[i], w.at[i], s0.at[i], s1.at[i], s2.at[i]);
  }
  *value = w;
  if constexpr (Rule::kNumSlots > 0) store_streaming(slot0, s0);
  if constexpr (Rule::kNumSlots > 1) store_streaming(slot1, s1);
  if constexpr (Rule::kNumSlots > 2) store_streaming(slot2, s2);
}

template <typename Gradient, typename Sum, typename Rule, int kEntries>
__global__ __launch_bounds__(kThreads) void update_kernel(
    const __grid_constant__ Table<kEntries> table) {
  const int block = static_cast<int>(blockIdx.x);
  const Entry& entry =
      table.entries[block_owner(table.entries, table.num_entries, &Entry::first_block, block)];
  const Rule rule(static_cast<const Sum*>(table.hyper), entry.decayed != 0);
  const int64_t begin = int64_t{block - entry.first_block} * kBlockElements;
  const int64_t end = min(begin + kBlockElements, entry.count);
  constexpr int kPack = kPackCount<Sum>;
  int64_t packed = begin;
  if (entry.aligned) {
    packed = end - (end - begin) % kPack;
    // Packs in flight; the rules with the most state run out of registers.
    constexpr int kInFlight = Rule::kNumSlots > 2 ? 2 : 4;
#pragma unroll kInFlight
    for (int64_t at = begin + threadIdx.x * kPack; at < packed; at += kThreads * kPack) {
      update_pack<Gradient, Sum, Rule, kPack>(entry, rule, at);
    }
  }
  for (int64_t at = packed + threadIdx.x; at < end; at += kThreads) {
    update_pack<Gradient, Sum, Rule, 1>(entry, rule, at);
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes == 0; }

// Rows after the first start `count` elements further on.
bool aligned(const TensorUpdate& update, int num_slots, int64_t gradient_bytes) {
  return aligned(update.gradient) && aligned(update.variable.value) &&
         std::all_of(update.variable.slots, update.variable.slots + num_slots,
                     [](const void* slot) { return aligned(slot); }) &&
         (update.gradient_rows == 1 || update.count * gradient_bytes % kPackBytes == 0);
}

int64_t blocks_of(const TensorUpdate& update) {
  return (update.count + kBlockElements - 1) / kBlockElements;
}

constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();

template <typename Gradient, typename Sum, typename Rule, int kEntries>
splitop_status launch_table(const void* hyper, const TensorUpdate* first, int count,
                            const Queue& queue) {
  Table<kEntries> table = {};
  table.hyper = hyper;
  table.num_entries = count;
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i) {
    const TensorUpdate& update = first[i];
    table.entries[i] = {
        update.gradient,
        update.variable.value,
        {update.variable.slots[0], update.variable.slots[1], update.variable.slots[2]},
        update.variable.clip,
        update.count,
        update.gradient_rows,
        update.variable.decayed,
        static_cast<int32_t>(blocks),
        aligned(update, Rule::kNumSlots, sizeof(Gradient))};
    blocks += blocks_of(update);
  }
  return enqueue(queue, "update_kernel", update_kernel<Gradient, Sum, Rule, kEntries>,
                 dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, table);
}

template <typename Gradient, typename Sum, typename Rule>
splitop_status launch_fitting_table(const void* hyper, const TensorUpdate* first, int count,
                                    const Queue& queue) {
  if (count <= kUpdateTables[0]) {
    return launch_table<Gradient, Sum, Rule, kUpdateTables[0]>(hyper, first, count, queue);
  }
  return launch_table<Gradient, Sum, Rule, kLargestTable>(hyper, first, count, queue);
}

// As many variables in a launch as its table and its grid can hold.
template <typename Gradient, typename Sum, typename Rule>
splitop_status launch_all(const void* hyper, const std::vector<TensorUpdate>& updates,
                          const Queue& queue) {
  size_t first = 0;
  while (first < updates.size()) {
    int64_t blocks = 0;
    size_t end = first;
    while (end < updates.size() && end - first < kLargestTable &&
           blocks + blocks_of(updates[end]) <= kMaxBlocks) {
      blocks += blocks_of(updates[end++]);
    }
    if (end == first) return SPLITOP_INVALID_ARGUMENT;
    const splitop_status status = launch_fitting_table<Gradient, Sum, Rule>(
        hyper, &updates[first], static_cast<int>(end - first), queue);
    if (status != SPLITOP_OK) return status;
    first = end;
  }
  return SPLITOP_OK;
}

template <typename Gradient, typename Sum>
splitop_status launch_rule(splitop_update_rule rule, const void* hyper,
                           const std::vector<TensorUpdate>& updates, const Queue& queue) {
  return with_elementwise_rule<Sum>(rule, [&](auto tag) {
    return launch_all<Gradient, Sum, typename decltype(tag)::Rule>(hyper, updates, queue);
  });
}

}  // namespace

splitop_status enqueue_updates(splitop_dtype gradient_dtype, splitop_dtype variable_dtype,
                               splitop_update_rule rule, const void* hyper,
                               const std::vector<TensorUpdate>& updates, const Queue& queue) {
  if (variable_dtype == SPLITOP_FLOAT64) {  // gradient_dtype is the same: 16 bits go with float32
    return launch_rule<double, double>(rule, hyper, updates, queue);
  }
  switch (gradient_dtype) {
    case SPLITOP_BFLOAT16:
      return launch_rule<bfloat16, float>(rule, hyper, updates, queue);
    case SPLITOP_FLOAT16:
      return launch_rule<float16, float>(rule, hyper, updates, queue);
    default:
      return launch_rule<float, float>(rule, hyper, updates, queue);
  }
}

}  // namespace splitop::cuda

splitop_status splitop_cuda_multi_tensor_update(const splitop_multi_tensor_update* update,
                                                splitop_cuda_stream stream) {
  if (!splitop::valid(update)) return SPLITOP_INVALID_ARGUMENT;
  std::vector<splitop::cuda::TensorUpdate> updates;
  for (int32_t i = 0; i < update->num_tensors; ++i) {
    const splitop_tensor_update& tensor = update->tensors[i];
    if (tensor.count > 0) updates.push_back({tensor.gradient, 1, tensor.variable, tensor.count});
  }
  return splitop::cuda::load_and_enqueue(stream, [&](const splitop::cuda::Queue& queue) {
    return splitop::cuda::enqueue_updates(update->gradient_dtype, update->variable_dtype,
                                          update->rule, update->hyper, updates, queue);
  });
}
