#include "splitop/update_rule.h"

#include "kernels/update_rules.h"

const char* splitop_update_rule_name(splitop_update_rule rule) {
  switch (rule) {
    case SPLITOP_SGD:
      return "sgd";
    case SPLITOP_MOMENTUM:
      return "momentum";
    case SPLITOP_ADAM:
      return "adam";
    default:
      return nullptr;
  }
}

int32_t splitop_num_slots(splitop_update_rule rule) {
  switch (rule) {
    case SPLITOP_SGD:
      return splitop::SgdRule<float>::kNumSlots;
    case SPLITOP_MOMENTUM:
      return splitop::MomentumRule<float>::kNumSlots;
    case SPLITOP_ADAM:
      return splitop::AdamRule<float>::kNumSlots;
    default:
      return -1;
  }
}

int32_t splitop_num_hyper(splitop_update_rule rule) {
  switch (rule) {
    case SPLITOP_SGD:
      return 2;
    case SPLITOP_MOMENTUM:
    case SPLITOP_ADAM:
      return 5;
    default:
      return -1;
  }
}
