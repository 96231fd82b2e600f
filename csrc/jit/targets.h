// What the custom calls of the ops that are for XLA only are called.
#ifndef SPLITOP_JIT_TARGETS_H_
#define SPLITOP_JIT_TARGETS_H_

namespace splitop {

constexpr char kAfterTarget[] = "splitop_after";
constexpr char kCheckTarget[] = "splitop_check";

}  // namespace splitop

#endif  // SPLITOP_JIT_TARGETS_H_
