// Lines that push each other out of the first-level cache, whatever its ways.
//
// AMD's Zen looks for a line by a hash of bits 12 to 27 of its linear address, and of each hash a
// set holds one line (Lipp et al., Take A Way, AsiaCCS 2020). So weights and their slots may come
// from the second-level cache again and again, in turn: as from arrays of 2^24 to 2^27 bytes, each
// of which an allocator has put a page more than that after the one before. Other processors lack
// this, and copy slots of such arrays for nothing. A gradient that collides is left where it is:
// its lines are not written.
#ifndef SPLITOP_KERNELS_CPU_CACHE_LINES_H_
#define SPLITOP_KERNELS_CPU_CACHE_LINES_H_

#include <stdint.h>

namespace splitop {
namespace {

constexpr uint64_t kPageBytes = 4096;

inline uint64_t address_of(const void* p) { return reinterpret_cast<uint64_t>(p); }

// Whether lines of the same set in the pages of a and of b have the same hash. Bit b of it is bit
// 12 + b of the address, changed if bit 27 is set for b = 0, 26 for 1, 25 for 2, 17 + b for others.
inline bool same_way(const void* a, const void* b) {
  const uint64_t differ = address_of(a) ^ address_of(b);
  const uint64_t partners =
      (differ >> 27 & 1) | (differ >> 25 & 2) | (differ >> 23 & 4) | (differ >> 17 & 0xf8);
  return (differ >> 12 & 0xff) == partners;
}

// Whether lines from a and from b on, read in step, are in the same sets, or will be: lines are
// fetched some way ahead.
inline bool share_sets(const void* a, const void* b) {
  constexpr uint64_t kNear = 4 * 64;
  return (address_of(a) - address_of(b) + kNear) % kPageBytes <= 2 * kNear;
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_CACHE_LINES_H_
