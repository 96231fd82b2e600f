// Sorts the keys given, with their positions as values: `sort_pairs BITS KEY...`. Prints both.
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "kernels/cuda/sort_pairs.h"

int main(int argc, char** argv) {
  const int bits = atoi(argv[1]);
  std::vector<uint32_t> keys[2], values[2];
  for (int i = 2; i < argc; ++i) {
    keys[0].push_back(static_cast<uint32_t>(atoll(argv[i])));
    values[0].push_back(static_cast<uint32_t>(i - 2));
  }
  const auto count = static_cast<int32_t>(keys[0].size());
  keys[1].resize(count);
  values[1].resize(count);
  size_t bytes;
  splitop::cuda::sort_pairs_bytes(count, bits, &bytes);
  std::vector<unsigned char> temporary(bytes);
  splitop::cuda::Pairs sorted;
  splitop::cuda::sort_pairs(
      {{keys[0].data(), keys[1].data()}, {values[0].data(), values[1].data()}}, count, bits,
      temporary.data(), bytes, {nullptr, false}, &sorted);
  for (int32_t i = 0; i < count; ++i) printf("%u %u\n", sorted.keys[i], sorted.values[i]);
}
