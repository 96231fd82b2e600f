// What Splitop>Check says of a condition that does not hold.
#ifndef SPLITOP_JIT_CHECK_MESSAGE_H_
#define SPLITOP_JIT_CHECK_MESSAGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

namespace splitop {

// The message: its parts, with numbers in between.
class CheckMessage {
 public:
  explicit CheckMessage(std::vector<std::string> parts) : parts_(std::move(parts)) {}

  // The next numbers: of a scalar, or of a vector.
  void Add(absl::Span<const int64_t> numbers, bool scalar) {
    const std::string joined = absl::StrJoin(numbers, " ");
    StartPart();
    absl::StrAppend(&text_, " ", scalar ? joined : absl::StrCat("[", joined, "]"));
  }

  std::string Finish() {
    StartPart();
    if (text_.empty() || text_.back() != '.') text_ += '.';
    return text_;
  }

 private:
  void StartPart() {
    if (next_ == parts_.size()) return;
    absl::StrAppend(&text_, text_.empty() || parts_[next_].empty() ? "" : " ", parts_[next_]);
    ++next_;
  }

  std::vector<std::string> parts_;
  size_t next_ = 0;
  std::string text_;
};

}  // namespace splitop

#endif  // SPLITOP_JIT_CHECK_MESSAGE_H_
