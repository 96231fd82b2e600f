#include "splitop/update_rule.h"

#include "kernels/update_rules.h"

namespace {

bool known(splitop_update_rule rule) { return rule >= 0 && rule < SPLITOP_NUM_UPDATE_RULES; }

}  // namespace

const char* splitop_update_rule_name(splitop_update_rule rule) {
  if (!known(rule)) return nullptr;
  return splitop::with_update_rule<float>(rule,
                                          [](auto tag) { return decltype(tag)::Rule::kName; });
}

int32_t splitop_num_slots(splitop_update_rule rule) {
  if (!known(rule)) return -1;
  return splitop::with_update_rule<float>(rule,
                                          [](auto tag) { return decltype(tag)::Rule::kNumSlots; });
}

int32_t splitop_num_hyper(splitop_update_rule rule) {
  if (!known(rule)) return -1;
  return splitop::with_update_rule<float>(rule,
                                          [](auto tag) { return decltype(tag)::Rule::kNumHyper; });
}

int32_t splitop_is_rowwise(splitop_update_rule rule) {
  if (!known(rule)) return -1;
  return splitop::with_update_rule<float>(
      rule, [](auto tag) -> int32_t { return decltype(tag)::Rule::kRowwise; });
}
