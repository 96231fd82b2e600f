// The cp.async copies of one thread.
#ifndef SPLITOP_EMULATION_ASYNC_COPIES_H_
#define SPLITOP_EMULATION_ASYNC_COPIES_H_

#include <stddef.h>
#include <string.h>

#include <vector>

namespace splitop::emulation {

constexpr int kNanBytes = 0xff;  // a NaN in every type of floats

class AsyncCopies {
 public:
  static constexpr int kBytes = 16;  // of a copy

  void clear() {
    copies_.clear();
    groups_.clear();
    committed_ = 0;
  }

  void issue(void* to, const void* from, bool valid) {
    memset(to, kNanBytes, kBytes);
    copies_.push_back({to, from, valid});
  }

  void commit() {
    groups_.push_back(copies_.size() - committed_);
    committed_ = copies_.size();
  }

  // Makes the copies of all groups but the last `pending` ones.
  void wait(size_t pending) {
    if (groups_.size() <= pending) return;
    const size_t num_groups = groups_.size() - pending;
    size_t num_copies = 0;
    for (size_t group = 0; group < num_groups; ++group) num_copies += groups_[group];
    for (size_t i = 0; i < num_copies; ++i) copies_[i].make();
    groups_.erase(groups_.begin(), groups_.begin() + num_groups);
    copies_.erase(copies_.begin(), copies_.begin() + num_copies);
    committed_ -= num_copies;
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    bool valid;

    void make() const {
      if (valid) {
        memcpy(to, from, kBytes);
      } else {
        memset(to, 0, kBytes);
      }
    }
  };

  std::vector<Copy> copies_;    // the oldest first
  std::vector<size_t> groups_;  // copies of each committed group that is not waited for yet
  size_t committed_ = 0;        // copies of all of them
};

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_ASYNC_COPIES_H_
