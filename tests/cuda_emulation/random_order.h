// The members of a set of up to 32, in a random order.
#ifndef SPLITOP_EMULATION_RANDOM_ORDER_H_
#define SPLITOP_EMULATION_RANDOM_ORDER_H_

#include <stdint.h>

namespace splitop::emulation {

// xorshift: the same numbers for the same seed.
class Random {
 public:
  explicit Random(uint32_t seed) : state_((uint64_t{seed} + 1) * 0x9e3779b97f4a7c15u) {}

  uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>(state_ >> 32);
  }

 private:
  uint64_t state_;
};

class RandomOrder {
 public:
  void add(uint32_t members, Random& random) {
    left_ |= members;
    const uint32_t number = random.next();
    position_ = number;
    step_ = (number >> 5) | 1;  // odd: it comes by every one of the 32
  }

  bool empty() const { return left_ == 0; }

  int take() {
    uint32_t member;
    do {
      member = 1u << (position_ & 31);
      position_ += step_;
    } while (!(left_ & member));
    left_ &= ~member;
    return __builtin_ctz(member);
  }

 private:
  uint32_t left_ = 0;
  uint32_t position_ = 0, step_ = 1;
};

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_RANDOM_ORDER_H_
